"""Data sets as streams of rows: from the Hugging Face hub, or from files on this disk.

Files of JSON, CSV and Parquet are read by `data_common.formats`, wherever they lie: values stay those of the file.
Which files make a split, and the rows of other kinds of files, is for the library `datasets` to say.
"""

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetInfo, HfApi
from huggingface_hub.errors import RevisionNotFoundError

from data_common.files.contents import stamp_of
from data_common.formats.csv_rows import delimiter_of
from data_common.formats.files import FileRows
from data_common.formats.local_files import is_local, local_files
from data_common.formats.opening import PARQUET, format_of
from data_common.formats.remote_files import is_remote, remote_files
from data_common.hub import snapshots
from data_common.hub.download import DatasetRows, Rows, save
from data_common.hub.network import hub_token
from data_common.messages.errors import UserError
from data_common.messages.notes import note
from data_common.messages.visible import visible
from data_common.rows.shards import SUFFIXES

SHUFFLE_BUFFER = 10_000  # rows among which the next one is drawn
CONVERTED = "refs/convert/parquet"  # the hub's own branch with the rows of a data set as Parquet files
RAW_FILES = {"togethercomputer/RedPajama-Data-1T-Sample": "cc_*.jsonl"}  # sets of which only such files are taken
PLAIN = ("json", "csv", "parquet")  # modules of `datasets` with builders for files that are read here
HARMLESS = {"name", "version", "data_dir", "data_files", "description", "features", "sep", "delimiter"}  # of their keys
HARMLESS |= {"batch_size", "fragment_scan_options", "chunksize", "block_size", "use_threads"}  # how, not what
READING = 2  # raised when the same file is read as other rows: positions from before are then not used


@dataclass(frozen=True)
class Wanted:
    """Which rows of a data set."""

    id: str  # on the hub, or a path
    name: str | None = None  # configuration of a set that has several
    split: str | None = None  # None: train
    revision: str | None = None  # branch, tag or commit; None: main
    sample_size: int | None = None  # only the first so many rows
    shuffle_seed: int | None = None  # shuffle, within a buffer
    delimiter: str | None = None  # of .csv and .tsv; None: comma, tab


def download_dataset(wanted: Wanted, path: str) -> tuple[Path, dict[str, Any]]:
    """Stream a data set to a file beside the JSONL file `path`. -> that file, facts for the manifest.

    Raises: UserError where the hub, the set, its configuration, split or revision cannot be had, for values
    (pictures, sound) that JSON cannot hold, and for a `path` or `sample_size` that makes no sense.
    """
    if wanted.sample_size is not None and wanted.sample_size < 1:
        raise UserError("the sample size must be at least 1 row")
    if not path.endswith((*SUFFIXES, PARQUET)):
        raise UserError(f"{path} is no file name for a data set: it must end with {' or '.join((*SUFFIXES, PARQUET))}")
    with snapshots.hub_errors(f"data set {wanted.id}"):
        stamps: list[Any] = []
        if is_remote(wanted.id):
            names, stamps = remote_files(wanted.id)
            rows, facts = _rows_of(wanted, names)
        elif is_local(wanted.id):
            files = local_files(wanted.id)
            stamps = list(map(stamp_of, files))
            rows, facts = _rows_of(wanted, list(map(str, files)))
        else:
            rows, facts = _hub_rows(wanted)
        identity = vars(wanted) | facts | {"stamps": stamps, "reading": READING}
        draft, saved = save(_in_order(wanted, rows), path, identity, wanted.sample_size, snapshots.is_connection_error)
        return draft, facts | saved


def _in_order(wanted: Wanted, rows: Any) -> Rows:
    """rows: of files, or an IterableDataset; shuffled, where that is wanted."""
    of_files, shuffled = isinstance(rows, FileRows), wanted.shuffle_seed is not None
    if wanted.delimiter is not None and not (of_files and rows.format == "csv"):
        raise UserError(f"--delimiter is for .csv and .tsv, not for {wanted.id}")
    if of_files and not shuffled:
        return rows
    dataset = _as_dataset(rows) if of_files else rows
    if shuffled:
        dataset = dataset.shuffle(seed=wanted.shuffle_seed, buffer_size=SHUFFLE_BUFFER)
    return DatasetRows(wanted.id, dataset, of_files)


def _file_rows(wanted: Wanted, names: list[str], delimiter: str | None = None) -> FileRows:
    """delimiter: that the set itself names."""
    if wanted.delimiter is not None:
        delimiter = delimiter_of(wanted.delimiter)
    return FileRows(names, delimiter, wanted.sample_size if wanted.shuffle_seed is None else None)


def _as_dataset(rows: FileRows) -> Any:
    """An IterableDataset of {"line": bytes}, a shard for each file."""
    import datasets  # slow to import

    def generate(names: list[str]) -> Iterator[dict[str, bytes]]:
        for name in names:
            yield from ({"line": line} for line in rows.rows_of(name))

    return datasets.IterableDataset.from_generator(generate, gen_kwargs={"names": rows.names})


def _hub_rows(wanted: Wanted) -> tuple[Any, dict[str, Any]]:
    """-> (rows of files, or an IterableDataset; facts)."""
    # one call without retries: `datasets` would try for minutes to reach a hub that is not there
    information = HfApi().dataset_info(
        wanted.id, revision=wanted.revision, timeout=snapshots.TIMEOUT, token=hub_token()
    )
    facts = snapshots.declared(information)
    split = wanted.split or "train"
    if pattern := RAW_FILES.get(wanted.id):
        names = sorted(fnmatch.filter(_names(information), pattern))
        if not names:
            raise UserError(f"data set {wanted.id} has no files {pattern} at {information.sha}")
        print(f"rows: the lines of {visible(', '.join(names))}")
        return _file_rows(wanted, _urls(wanted.id, information.sha, names)), facts
    import datasets  # slow to import

    try:
        builder = datasets.load_dataset_builder(wanted.id, wanted.name, revision=information.sha, token=hub_token())
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        return _file_rows(wanted, _converted(wanted, split)), facts
    return _plain_files(wanted, builder, split) or builder.as_streaming_dataset(split), facts


def _plain_files(wanted: Wanted, builder: Any, split: str) -> FileRows | None:
    """The rows of a split whose files are all of a kind that is read here; None where they are not.

    What the set says of how to read them, but for types of the columns and the delimiter, only `datasets` can follow.
    """
    names = [str(name) for name in (builder.config.data_files or {}).get(split, ())]
    formats = {format_of(name) for name in names}
    if type(builder).__module__.rpartition(".")[2] not in PLAIN or len(formats) != 1 or "" in formats:
        return None
    usual = type(builder.config)()
    said = {key for key, value in vars(builder.config).items() if value != getattr(usual, key)} - HARMLESS
    if said:
        note(f"{wanted.id} is read by the library datasets, for the set says of itself: {', '.join(sorted(said))}")
        return None
    return _file_rows(wanted, names, getattr(builder.config, "sep", None))


def _converted(wanted: Wanted, split: str) -> list[str]:
    """The Parquet files that the hub made of a set that loads by code of its own."""
    what = f"data set {wanted.id} loads by code of its own, which is not run; "
    try:
        names = _names(
            HfApi().dataset_info(wanted.id, revision=CONVERTED, timeout=snapshots.TIMEOUT, token=hub_token())
        )
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
    return _urls(wanted.id, CONVERTED.replace("/", "%2F"), places[chosen, split])


def _rows_of(wanted: Wanted, names: list[str]) -> tuple[FileRows, dict[str, Any]]:
    """-> (rows of these files, facts)."""
    for part, option in (("name", "--data-name"), ("split", "--split-name"), ("revision", "--revision")):
        if getattr(wanted, part) is not None:
            where = "is a file" if is_remote(wanted.id) else "is on this disk"
            raise UserError(f"{wanted.id} {where}: leave out {option}, which is for data sets of the hub")
    return _file_rows(wanted, names), {"files": len(names)}


def _names(information: DatasetInfo) -> list[str]:
    return [file.rfilename for file in information.siblings or ()]


def _urls(hub_id: str, revision: str, names: list[str]) -> list[str]:
    return [f"hf://datasets/{hub_id}@{revision}/{name}" for name in names]
