"""Downloads from the Hugging Face hub: a data set as JSON lines, a model as a folder that loads offline.

The token comes from HF_TOKEN alone: one stored on this machine by other tools is not used, and none is printed.
"""

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from tqdm import tqdm

from common.errors import UserError
from common.files import replace_folder
from common.jsonl import SUFFIXES, open_output
from common.network import hub_answers

TIMEOUT = 10  # seconds until the hub counts as out of reach
MODEL_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]  # weights, configuration, tokenizer; no pickle
UNWANTED_FILES = ["*/*", "consolidated*"]  # folders and second copies of the weights for other software
HTTP_LIBRARIES = {"httpx", "httpx2", "requests", "aiohttp"}  # what different versions of the hub's client use
CURES = {  # part of a message of `datasets` -> what the user can do
    "Config name is missing": "choose one with --data-name",
    "BuilderConfig": "choose one with --data-name",
    "Bad split": "choose one with --split-name",
    "Unknown split": "choose one with --split-name",
    "scripts are no longer supported": "it loads by code of its own; choose a copy in Parquet or JSON",
    "gated": "accept its terms on huggingface.co and set HF_TOKEN",
}


def download_dataset(
    hub_id: str, path: str, name: str | None = None, split: str | None = None, sample_size: int | None = None
) -> dict[str, int]:
    """Stream the first `sample_size` rows (None: all) of a data set to the JSONL file `path`; returns the row count.

    Dates become ISO strings, decimals strings, bytes base64, NaN and infinity null. split: None is `train`.

    Raises: UserError where the hub, the data set, its configuration `name` or the split cannot be had, for
    values (pictures, sound) that JSON cannot hold, and for a `path` or `sample_size` that makes no sense.
    """
    if sample_size is not None and sample_size < 1:
        raise UserError("the sample size must be at least 1 row")
    if not path.endswith(SUFFIXES):
        raise UserError(f"{path} is no file name for a data set of the hub: it must end with {' or '.join(SUFFIXES)}")
    rows = itertools.islice(_rows(hub_id, name, split or "train"), sample_size)
    count = 0
    with open_output(path) as file:
        for row in tqdm(rows, total=sample_size, unit="row", desc=hub_id, disable=None):
            file.write(_json_line(row, hub_id) + b"\n")
            count += 1
    return {"rows": count}


def download_model(hub_id: str, folder: Path) -> dict[str, int]:
    """Download configuration, tokenizer and safetensors weights to `folder`, whole; returns the count of files.

    What a failed download has got lies hidden beside `folder`, and the next try goes on from there.

    Raises: UserError where the hub or the model cannot be had, or it has no safetensors weights.
    """
    # named by the id: files of another model must not get in
    partial = folder.with_name(f".{folder.name}.{hub_id.replace('/', '--')}.partial")
    with _hub_errors(f"model {hub_id}"):
        information = HfApi().model_info(hub_id, timeout=TIMEOUT, token=_token())
        names = [file.rfilename for file in information.siblings or ()]
        if not any(name.endswith(".safetensors") and "/" not in name for name in names):
            raise UserError(f"model {hub_id} has no safetensors weights (pickled ones can run code, so are not taken)")
        snapshot_download(
            hub_id, local_dir=partial, allow_patterns=MODEL_FILES, ignore_patterns=UNWANTED_FILES, token=_token()
        )
        shutil.rmtree(partial / ".cache", ignore_errors=True)  # the client's notes on the download
        replace_folder(partial, folder)
    return {"files": sum(1 for _ in folder.iterdir())}


def cached_files(hub_id: str, patterns: list[str]) -> Path:
    """The folder of the hub's cache with the files of a repository that match; downloaded where they are not there.

    Raises: UserError where they cannot be had.
    """
    with _hub_errors(f"{hub_id} (no such path here)"):
        offline = not hub_answers()
        return Path(snapshot_download(hub_id, allow_patterns=patterns, local_files_only=offline, token=_token()))


def _rows(hub_id: str, name: str | None, split: str) -> Iterator[dict[str, Any]]:
    with _hub_errors(f"data set {hub_id}"):
        # one call without retries: `datasets` would try for minutes to reach a hub that is not there
        HfApi().dataset_info(hub_id, timeout=TIMEOUT, token=_token())
        import datasets  # slow to import

        yield from datasets.load_dataset(hub_id, name, split=split, streaming=True, token=_token())


def _json_line(row: dict[str, Any], hub_id: str) -> bytes:
    try:
        return msgspec.json.encode(row)
    except TypeError as error:
        raise UserError(f"data set {hub_id} holds what JSON cannot: {error}") from None


def _token() -> str | bool:
    """The user's token; False, not None, which would stand for a token stored on this machine."""
    return os.environ.get("HF_TOKEN") or False


@contextlib.contextmanager
def _hub_errors(what: str) -> Iterator[None]:
    """Turn whatever the hub's libraries raise (they share no base class) into one line that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(_explain(what, error)) from error


def _explain(what: str, error: Exception) -> str:
    message = " ".join(str(error).split())[:300]
    if isinstance(error, GatedRepoError):
        return f"{what} is gated: accept its terms on huggingface.co and set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return f"{what} is not on the hub: check the id, or set HF_TOKEN if it is private"
    if isinstance(error, OfflineModeIsEnabled):
        return f"{what} cannot be had offline: unset HF_HUB_OFFLINE, or use a local copy"
    if isinstance(error, HfHubHTTPError):
        return f"the hub refused {what}: {message}"
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.split(".")[0] in HTTP_LIBRARIES:
        return f"no connection to the hub for {what}: check network, proxy and HF_ENDPOINT ({message})"
    cures = [f" ({cure})" for part, cure in CURES.items() if part in message]
    return f"cannot download {what}: {message or type(error).__name__}{cures[0] if cures else ''}"
