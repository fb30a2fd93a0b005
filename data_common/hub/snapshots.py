"""Downloads from the Hugging Face hub: a data set as JSON lines, a model as a folder that loads offline.

The token comes from HF_TOKEN alone: one stored on this machine by other tools is not used, and none is printed.
"""

import contextlib
import fnmatch
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import (
    DatasetInfo,
    HfApi,
    ModelInfo,
    get_hf_file_metadata,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from data_common.files.atomic import partial_path
from data_common.files.durable import open_own_folder
from data_common.hub.network import hub_answers, hub_token
from data_common.messages.errors import UserError
from data_common.messages.redaction import redact

TIMEOUT = 10  # seconds until the hub counts as out of reach
MODEL_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]  # weights, configuration, tokenizer; no pickle
PICKLED = "*.bin"  # weights that are loaded by unpickling
UNWANTED_FILES = ["*/*", "consolidated*"]  # folders and second copies of the weights for other software
HTTP_LIBRARIES = {"httpx", "httpx2", "requests", "aiohttp"}  # what different versions of the hub's client use
CURES = {  # part of a message of `datasets` -> what the user can do
    "Config name is missing": "choose one with --data-name",
    "BuilderConfig": "choose one with --data-name",
    "Bad split": "choose one with --split-name",
    "Unknown split": "choose one with --split-name",
    "gated": "accept its terms on huggingface.co and set HF_TOKEN",
}


def download_model(
    hub_id: str, folder: Path, revision: str | None = None, pickles: bool = False
) -> tuple[Path, dict[str, Any]]:
    """Download configuration, tokenizer and safetensors weights. -> a folder beside `folder`, facts for its manifest.

    revision: branch, tag or commit; None: main. pickles: take pickled weights where there are no others; loading them
    can run code. Raises: UserError where the hub or the model cannot be had, or it has no weights of that kind.
    """
    with hub_errors(f"model {hub_id}"):
        information = HfApi().model_info(hub_id, revision=revision, timeout=TIMEOUT, token=hub_token())
        names = [file.rfilename for file in information.siblings or () if "/" not in file.rfilename]
        kinds = ["*.safetensors", PICKLED] if pickles else ["*.safetensors"]
        weights = next((kind for kind in kinds if fnmatch.filter(names, kind)), None)
        if weights is None:
            why = "" if pickles else " (pickled ones can run code: --allow-pickle takes them)"
            raise UserError(f"model {hub_id} has no safetensors weights{why}")
        facts = declared(information)
        draft = _draft(folder, "model", information)
        _snapshot(draft, hub_id, "model", information.sha, [weights, *MODEL_FILES], UNWANTED_FILES)
    return draft, facts | {"files": sum(1 for _ in draft.iterdir())}


def download_repository(hub_id: str, folder: Path, revision: str | None = None) -> tuple[Path, dict[str, Any]]:
    """Download all files of a repository, of a model or else a data set. -> a folder beside `folder`, facts.

    Raises: UserError where the hub or the repository cannot be had.
    """
    with hub_errors(f"repository {hub_id}"):
        kind, options = "model", {"revision": revision, "timeout": TIMEOUT, "token": hub_token()}
        try:
            information = HfApi().model_info(hub_id, **options)
        except RepositoryNotFoundError as error:
            if isinstance(error, GatedRepoError):
                raise
            kind, information = "dataset", HfApi().dataset_info(hub_id, **options)
        facts = declared(information)
        draft = _draft(folder, "repo", information)
        _snapshot(draft, hub_id, kind, information.sha)
    return draft, facts | {"kind": kind, "files": sum(1 for path in draft.rglob("*") if path.is_file())}


def _draft(folder: Path, content: str, information: ModelInfo | DatasetInfo) -> Path:
    """Where files are gathered, and a further try goes on: files of another download must not get in."""
    what = f"{content}-{information.id.replace('/', '--')}-{information.sha[:8]}"
    draft = partial_path(folder).with_name(f"{partial_path(folder).name}-{what}")
    draft.mkdir(parents=True, exist_ok=True)
    os.close(open_own_folder(draft))
    return draft


def _snapshot(
    draft: Path, hub_id: str, kind: str, revision: str, wanted: list[str] | None = None, but: list[str] | None = None
) -> None:
    options = {"repo_type": kind, "local_dir": draft, "allow_patterns": wanted, "ignore_patterns": but}
    snapshot_download(hub_id, revision=revision, token=hub_token(), **options)
    shutil.rmtree(draft / ".cache", ignore_errors=True)  # the client's notes on the download


def declared(information: ModelInfo | DatasetInfo) -> dict[str, Any]:
    """What a repository declares of itself, printed: revision, licence, whether it is gated."""
    card = information.card_data
    licence = card.get("license") if card else None
    print(f"{information.id} at {information.sha}, licence: {licence or 'not declared'}")
    if information.gated:
        print("note: it is gated: the terms that you accepted on huggingface.co bind what you do with it")
    return {"revision": information.sha, "licence": licence}


def cached_files(hub_id: str, patterns: list[str]) -> Path:
    """The folder of the hub's cache with the files of a repository that match; downloaded where they are not there.

    Raises: UserError where they cannot be had.
    """
    with hub_errors(f"{hub_id} (no such path here)"):
        offline = not hub_answers()
        return Path(snapshot_download(hub_id, allow_patterns=patterns, local_files_only=offline, token=hub_token()))


def only_on_hub(hub_id: str, files: Sequence[str]) -> bool:
    """Whether a repository with one of the files would have to be downloaded, or is in the cache; nothing is fetched.

    Raises: what the client of the hub does where the hub does not answer, or has none of them.
    """
    if any(isinstance(try_to_load_from_cache(hub_id, file), str) for file in files):
        return False
    if not hub_answers():
        raise ConnectionError("the hub does not answer")
    for file in files:
        try:
            get_hf_file_metadata(hf_hub_url(hub_id, file), token=hub_token(), timeout=TIMEOUT)
            return True
        except RemoteEntryNotFoundError as error:
            missing = error
    raise missing


@contextlib.contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn whatever the hub's libraries raise (they share no base class) into one line that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(_explain(what, error)) from error


def is_connection_error(error: Exception) -> bool:
    """Whether the hub was not reached, or the connection broke."""
    http = type(error).__module__.split(".")[0] in HTTP_LIBRARIES and not isinstance(error, HfHubHTTPError)
    return http or isinstance(error, ConnectionError | TimeoutError)


def _explain(what: str, error: Exception) -> str:
    message = redact(" ".join(str(error).split()))[:300]
    if isinstance(error, GatedRepoError):
        return f"{what} is gated: accept its terms on huggingface.co and set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return f"{what} is not on the hub: check the id, or set HF_TOKEN if it is private"
    if isinstance(error, OfflineModeIsEnabled):
        return f"{what} cannot be had offline: unset HF_HUB_OFFLINE, or use a local copy"
    if isinstance(error, RevisionNotFoundError):
        return f"{what} has no such revision: check --revision"
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
        return f"the hub refused the token for {what}: check HF_TOKEN, or unset it"
    if isinstance(error, HfHubHTTPError):
        return f"the hub refused {what}: {message}"
    if is_connection_error(error):
        return f"no connection to the hub for {what}: check network, proxy and HF_ENDPOINT ({message})"
    cures = [f" ({cure})" for part, cure in CURES.items() if part in message]
    return f"cannot download {what}: {message or type(error).__name__}{cures[0] if cures else ''}"
