"""Data sets as streams of rows, by the library `datasets`: from the Hugging Face hub, or from files on this disk."""

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetInfo, HfApi
from huggingface_hub.errors import RevisionNotFoundError

from common import hub
from common.contents import stamp_of
from common.download import Stream, save
from common.errors import UserError
from common.local_files import is_local, local_files
from common.network import hub_token
from common.shards import SUFFIXES
from common.visible import visible

SHUFFLE_BUFFER = 10_000  # rows among which the next one is drawn
CONVERTED = "refs/convert/parquet"  # the hub's own branch with the rows of a data set as Parquet files
RAW_FILES = {"togethercomputer/RedPajama-Data-1T-Sample": "cc_*.jsonl"}  # sets whose lines are taken as they are


@dataclass(frozen=True)
class Wanted:
    """Which rows of a data set."""

    id: str  # on the hub, or a path
    name: str | None = None  # configuration of a set that has several
    split: str | None = None  # None: train
    revision: str | None = None  # branch, tag or commit; None: main
    sample_size: int | None = None  # only the first so many rows
    shuffle_seed: int | None = None  # shuffle, within a buffer


def download_dataset(wanted: Wanted, path: str) -> tuple[Path, dict[str, Any]]:
    """Stream a data set to a file beside the JSONL file `path`. -> that file, facts for the manifest.

    Raises: UserError where the hub, the set, its configuration, split or revision cannot be had, for values
    (pictures, sound) that JSON cannot hold, and for a `path` or `sample_size` that makes no sense.
    """
    if wanted.sample_size is not None and wanted.sample_size < 1:
        raise UserError("the sample size must be at least 1 row")
    if not path.endswith(SUFFIXES):
        raise UserError(f"{path} is no file name for a data set: it must end with {' or '.join(SUFFIXES)}")
    with hub.hub_errors(f"data set {wanted.id}"):
        local = is_local(wanted.id)
        rows, kind, facts = _local_rows(wanted) if local else _hub_rows(wanted)
        rows = _with_mixed_values(rows)
        if wanted.shuffle_seed is not None:
            rows = rows.shuffle(seed=wanted.shuffle_seed, buffer_size=SHUFFLE_BUFFER)
        stamps = [stamp_of(file) for file in local_files(wanted.id)[0]] if local else []
        identity = vars(wanted) | facts | {"stamps": stamps}
        stream = Stream(wanted.id, rows, identity, kind == "text", wanted.shuffle_seed is not None)
        draft, rows = save(stream, path, wanted.sample_size, hub.is_connection_error)
        lost = {"not_finite_numbers": stream.not_finite} if stream.not_finite else {}
        return draft, facts | {"rows": rows} | lost


def _hub_rows(wanted: Wanted) -> tuple[Any, str, dict[str, Any]]:
    """-> (IterableDataset, kind of its rows, facts)."""
    # one call without retries: `datasets` would try for minutes to reach a hub that is not there
    information = HfApi().dataset_info(wanted.id, revision=wanted.revision, timeout=hub.TIMEOUT, token=hub_token())
    facts = hub.declared(information)
    split = wanted.split or "train"
    if pattern := RAW_FILES.get(wanted.id):
        names = sorted(fnmatch.filter(_names(information), pattern))
        if not names:
            raise UserError(f"data set {wanted.id} has no files {pattern} at {information.sha}")
        print(f"rows: the lines of {visible(', '.join(names))}")
        return _load("text", _urls(wanted.id, information.sha, names), token=hub_token()), "text", facts
    import datasets  # slow to import

    try:
        options = {"split": split, "streaming": True, "token": hub_token(), "revision": information.sha}
        return datasets.load_dataset(wanted.id, wanted.name, trust_remote_code=False, **options), "rows", facts
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        return _converted(wanted, split), "rows", facts


def _converted(wanted: Wanted, split: str) -> Any:
    """The rows of a set that loads by code of its own, from the Parquet files that the hub made of it."""
    what = f"data set {wanted.id} loads by code of its own, which is not run; "
    try:
        names = _names(HfApi().dataset_info(wanted.id, revision=CONVERTED, timeout=hub.TIMEOUT, token=hub_token()))
    except RevisionNotFoundError:
        raise UserError(what + "the hub has no Parquet conversion of it: choose a copy in Parquet or JSON") from None
    places: dict[tuple[str, str], list[str]] = {}
    for name in sorted(fnmatch.filter(names, "*/*/*.parquet")):
        configuration, part, _ = name.split("/")
        places.setdefault((configuration, part.removeprefix("partial-")), []).append(name)
    configurations = sorted({configuration for configuration, _ in places})
    chosen = wanted.name or (configurations[0] if len(configurations) == 1 else None)
    if chosen not in configurations:
        raise UserError(what + f"its Parquet conversion has {configurations}: choose one with --data-name")
    if (chosen, split) not in places:
        splits = sorted(part for configuration, part in places if configuration == chosen)
        raise UserError(what + f"{chosen} of its Parquet conversion has {splits}: choose one with --split-name")
    print(what + "taking the hub's Parquet conversion")
    if any("/partial-" in name for name in places[chosen, split]):
        print("note: that conversion holds only the first part of the split")
    urls = _urls(wanted.id, CONVERTED.replace("/", "%2F"), places[chosen, split])
    return _load("parquet", urls, token=hub_token())


def _local_rows(wanted: Wanted) -> tuple[Any, str, dict[str, Any]]:
    for part, option in (("name", "--data-name"), ("split", "--split-name"), ("revision", "--revision")):
        if getattr(wanted, part) is not None:
            raise UserError(f"{wanted.id} is on this disk: leave out {option}, which is for data sets of the hub")
    files, kind = local_files(wanted.id)
    options: dict[str, Any] = {"keep_default_na": False, "na_values": [""]} if kind == "csv" else {}  # NA is a word
    options |= {"sep": "\t"} if files[0].suffix == ".tsv" else {}
    names = [str(file.resolve()) for file in files]
    return _load(kind, names, token=False, **options), kind, {"files": len(files)}


def _with_mixed_values(rows: Any) -> Any:
    """Rows of JSON whose fields hold values of several kinds, as they are: `datasets` keeps these as JSON in a string,
    and while it streams only the Arrow tables know of it."""
    import datasets  # slow to import
    from datasets.features.features import require_decoding

    if rows.features is not None:
        return rows
    table = next(rows.with_format("arrow").iter(batch_size=1), None)
    features = None if table is None else datasets.Features.from_arrow_schema(table.schema)
    return rows.cast(features) if features is not None and require_decoding(features) else rows


def _load(kind: str, files: list[str], **options: Any) -> Any:
    import datasets  # slow to import

    fixed = {"split": "train", "streaming": True, "trust_remote_code": False}
    return datasets.load_dataset(kind, data_files={"train": files}, **fixed, **options)


def _names(information: DatasetInfo) -> list[str]:
    return [file.rfilename for file in information.siblings or ()]


def _urls(hub_id: str, revision: str, names: list[str]) -> list[str]:
    return [f"hf://datasets/{hub_id}@{revision}/{name}" for name in names]
