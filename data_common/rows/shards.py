"""Files of lines, plain or compressed: opened for reading as plain bytes, written whole or not at all."""

import contextlib
import glob
import gzip
import mmap
import os
import resource
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from data_common.files.atomic import atomic_file
from data_common.files.bus_errors import explain_bus_errors
from data_common.files.contents import stamp_of
from data_common.files.temporary import told_of_temporary
from data_common.formats.opening import BLOCK, HEAD, READ_ERRORS, check_content, compression_of, opened_plain, suffix_of
from data_common.messages.commands import UTILS
from data_common.messages.errors import UserError
from data_common.messages.notes import note
from data_common.messages.visible import brief, visible

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
# shards where there are no such files
PACKED = (".json.gz", ".json.zst", ".jsonl.bz2", ".jsonl.xz", ".json.bz2", ".json.xz")
TABLES = (".parquet", ".csv", ".tsv")  # utils.py makes JSON lines of them
OTHERS = (*TABLES, ".json", ".arrow", ".feather", ".orc", ".avro", ".xlsx", ".npy", ".zip", ".tar", ".tgz")
OTHERS += (".bz2", ".xz", ".lz4", ".br", ".7z")  # what is written is not compressed so
SCORES_ALONE = "; scoring with score_file=true writes scores alone"
KEPT = ".scores"  # OUT.scores.npy, OUT.scores.jsonl: of the rows that a stage has written to OUT
STDLIB = "python-stdlib"  # the embedded data set, and the folder in which configurations look for it


@dataclass
class Shard:
    """One input file as plain bytes."""

    name: str
    file: BinaryIO
    size: int
    base: int  # offset of its first byte in the whole source
    stamp: tuple[int, ...]  # changes when the file is changed or replaced; of the moment before it was opened


@contextlib.contextmanager
def open_shards(
    path: str, whole: bool = True, key: str = "", files: Sequence[str] | None = None
) -> Iterator[list[Shard]]:
    """Open a file, a glob or a folder of `.jsonl`, `.jsonl.gz`, `.jsonl.zst` shards.

    Compressed shards are decompressed once to an unnamed temporary file. whole: else only their first lines are.
    key: that names the path, for messages; empty for IN. files: that the path stands for, where that is known.
    Raises: UserError where nothing is there or a file cannot be read.
    """
    with contextlib.ExitStack() as stack:
        shards, base = [], 0
        names = [Path(file) for file in files] if files else _shard_paths(path, f"{key}: " if key else "")
        _allow_open_files(len(names))
        for name in names:
            if name.is_fifo():
                raise UserError(f"{name} is a pipe, and rows are read more than once: write them to a file")
            try:
                stamp = stamp_of(name)
                file = stack.enter_context(_open_plain(name, whole))
            except READ_ERRORS as error:
                raise UserError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error
            if not file.seekable():
                raise UserError(f"{name} is a pipe, and rows are read more than once: write them to a file")
            _check_lines(name, os.pread(file.fileno(), HEAD, 0))
            size = file.seek(0, 2)
            shards.append(Shard(str(name), file, size, base, stamp))
            base += size
        yield shards


def check_apart(source: str, target: str, name: str = "OUT") -> None:
    """Raises UserError where `target` would be a further shard of `source`, and the next call would read it too."""
    place, written = Path(source), Path(target).resolve()
    inside = place.is_dir() and written.parent == place.resolve() and written.name.endswith(SUFFIXES)
    if inside or (glob.has_magic(source) and not place.exists() and fnmatch(str(written), str(place.absolute()))):
        raise UserError(f"{name}={target} lies in {source}, which is read: write it to another place")


def check_suffix(target: str, name: str = "OUT") -> None:
    """Raises UserError where the name of a file of rows promises something else than JSON lines."""
    file = Path(target).name.lower()
    suffix = next((s for s in OTHERS if file.removesuffix(".gz").removesuffix(".zst").endswith(s)), None)
    if suffix:
        raise UserError(
            f"{name}={target}: JSON lines are written, and {suffix} promises something else: end it with "
            f"{', '.join(SUFFIXES)}, or with rows_per_shard name a folder ({UTILS} makes JSON lines of tables, "
            f"and Parquet of JSON lines{SCORES_ALONE if suffix == '.npy' else ''})"
        )


def stem(file: str | Path) -> str:
    """The name of a file without the suffix of a JSONL file."""
    name = Path(file).name
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def mapped(shard: Shard) -> memoryview:
    """The bytes of a shard, mapped (an empty file cannot be); unmapped when the last slice of it is gone."""
    explain_bus_errors()
    return memoryview(mmap.mmap(shard.file.fileno(), 0, access=mmap.ACCESS_READ) if shard.size else b"")


@contextlib.contextmanager
def open_output(target: str) -> Iterator[BinaryIO]:
    """A file to write bytes to that becomes `target` when all went well; `.gz` and `.zst` are compressed."""
    with atomic_file(target) as draft, compressed(draft, target) as file:
        yield file


@contextlib.contextmanager
def compressed(path: Path, name: str) -> Iterator[BinaryIO]:
    """A file to write bytes to; they are compressed as a file called `name` is."""
    with open(path, "wb") as raw:
        if name.endswith(".gz"):
            with gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
                yield file
        elif name.endswith(".zst"):
            import zstandard

            with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as file:
                yield file
        else:
            yield raw


def _shard_paths(path: str, origin: str) -> list[Path]:
    """origin: how a message begins."""
    place = Path(path)
    if place.is_dir():
        return _shards_in(place, origin)
    if place.exists():
        return [place]
    if glob.has_magic(path) and (found := sorted(Path(p) for p in glob.glob(path, recursive=True))):
        return found
    if "://" in path:
        raise UserError(f"{origin}{path}: only files of this machine are read: copy it here, or get it by {UTILS}")
    parts = path.strip("[] ").replace(",", " ").split()
    if len(parts) > 1 and any(map(os.path.exists, parts)):
        raise UserError(
            f"{origin}{path} is a list: name one file, their folder, or a glob in quotes ('folder/*.jsonl')"
        )
    fault = "no file matches" if glob.has_magic(path) else "no such file:"
    made = f"; {UTILS} --content dataset --id {STDLIB} --save-dir {place.parent} makes it"
    raise UserError(f"{origin}{fault} {path}{made if place.parent.name == STDLIB else ''}")


def _shards_in(folder: Path, origin: str) -> list[Path]:
    """Sorted by name; files that look like shards and are not read are told."""
    names = sorted(path.name for path in folder.iterdir())
    visible_names = [name for name in names if not name.startswith(".")]
    if hidden := [name for name in names if name.startswith(".") and name.endswith((*SUFFIXES, *PACKED))]:
        note(f"{visible(folder)}: names that begin with a dot are no shards: {brief(visible(', '.join(hidden)))}")
    found = [name for name in visible_names if name.endswith(SUFFIXES) and not _is_of_scores(name, names)]
    packed = [name for name in visible_names if name.endswith(PACKED)]
    if found and packed:
        left_out = brief(visible(", ".join(packed)))
        note(f"{visible(folder)}: only {', '.join(SUFFIXES)} are read, not {left_out}, which a glob can name")
    if not found and not packed:
        tables = any(suffix_of(name) for name in visible_names)
        cure = f": {_conversion(folder)}" if tables else ""
        raise UserError(f"{origin}no .jsonl, .jsonl.gz or .jsonl.zst files in the folder {folder}{cure}")
    return [folder / name for name in found or packed]


def _is_of_scores(name: str, names: Sequence[str]) -> bool:
    """Whether a file holds the scores that a stage has written beside another one."""
    rows, kept, _ = name.rpartition(f"{KEPT}.jsonl")
    return bool(kept) and rows in names


def _conversion(place: Path) -> str:
    """The command that makes JSON lines of tables and lists."""
    plain = str(place).removesuffix(compression_of(place.name))
    words = shlex.join(["--id", str(place), "--save-dir", f"{plain.removesuffix(suffix_of(place.name))}.jsonl"])
    return f"{UTILS} --content dataset {words}"


def _check_lines(path: Path, head: bytes) -> None:
    """Raises UserError for what begins as something else: a table (if not by its content, by its name), a list."""
    suffix = suffix_of(path.name)
    if suffix in TABLES and not head.startswith(b"{"):
        raise UserError(f"{path} does not hold JSON lines: {_conversion(path)}")
    check_content(str(path).removesuffix(compression_of(path.name)), head)
    if suffix == ".json" and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        raise UserError(f"{path} does not hold JSON lines but a list: {_conversion(path)}")


def _allow_open_files(shards: int) -> None:
    """Every shard stays open, and is mapped up to three times. Raises: UserError where the system allows too few."""
    needed = 4 * shards + 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < needed:
        raise UserError(f"{shards:,} shards need {needed:,} open files, {hard:,} are allowed (ulimit -n): join some")
    if resource.RLIM_INFINITY != soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _open_plain(path: Path, whole: bool) -> BinaryIO:
    """The bytes of `path`, decompressed to an unnamed temporary file if need be. whole: else only its first lines."""
    if not compression_of(path.name):
        return open(path, "rb")
    with opened_plain(str(path)) as plain:
        blocks = iter(lambda: plain.read(BLOCK), b"")
        return _temporary(blocks if whole else _first_lines(blocks))


def _first_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines: as many as there are in a block."""
    for block in blocks:
        end = block.rfind(b"\n") + 1
        yield block[:end] or block
        if end:
            return


def _temporary(blocks: Iterable[bytes]) -> BinaryIO:
    with told_of_temporary():
        plain = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
        plain.writelines(blocks)
        plain.flush()
    return plain
