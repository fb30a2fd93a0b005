"""What is wrong with models and tokenizers, known in seconds: nothing is downloaded, no weights are loaded."""

from pathlib import Path

from data_common.hub import snapshots
from data_common.models import loading
from data_common.models.traits import check_positions


def check_tokenizer(path: str, trust_remote_code: bool = False) -> None:
    """Raises UserError where the tokenizer of a folder does not load, or the hub does not have that of an id."""
    if not only_on_hub(path):
        loading.load_tokenizer(path, trust_remote_code)


def check_model(
    path: str,
    max_length: int | None = None,
    key: str = "max_length",
    *,
    trust_remote_code: bool = False,
    backbone: bool = False,
) -> None:
    """Raises UserError where `load_tokenizer` or `load_model` would for what is in a folder, weights aside.

    Of a hub id that was not downloaded before it is only asked whether the hub has it.
    max_length: tokens that there must be positions for, as `key` says. backbone: it will be loaded by `load_backbone`.
    """
    if only_on_hub(path):
        return
    tokenizer = loading.load_tokenizer(path, trust_remote_code)
    load = loading.load_backbone if backbone else loading.load_model
    model = load(path, tokenizer, weights=False, trust_remote_code=trust_remote_code)
    if max_length is not None:
        check_positions(model, max_length, key)


def only_on_hub(path: str, file: str = "config.json") -> bool:
    """Whether a model would have to be downloaded: it is no folder, and not in the cache. file: one that it must have.

    Raises: UserError where the hub does not have it.
    """
    if Path(path).is_dir():
        return False
    with loading.errors_of(path, "model"):
        return snapshots.only_on_hub(path, [file])
