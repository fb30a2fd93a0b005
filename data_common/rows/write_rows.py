"""Write lines of a source in any order: taken from mapped memory, or by threaded reads from a file too large for it."""

import contextlib
import os
import re
import resource
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_common.calls.progress import Progress
from data_common.files.atomic import check_writable
from data_common.files.manifest import manifest_path
from data_common.messages.errors import UserError
from data_common.parallel.processes import threaded_map
from data_common.rows.jsonl import Rows, Source, keep_freed_memory
from data_common.rows.shards import compressed, mapped

WRITE_BLOCK = 2**18  # bytes joined into one write: less costs more calls, 4 MB joins cost twice as much
SYNC_BYTES = 2**25  # given to the disk at a time
THREADS = 16  # blocks that are read at the same time
PART = re.compile(r"part-\d{5,}\.jsonl(\.gz|\.zst)?")

Spans = list[tuple[int, int, int]]  # shard number, first byte and end of each line of a block


def write_lines(
    draft: Path,
    name: str,
    source: Source,
    rows: Rows,
    index: np.ndarray,
    rows_per_shard: int | None = None,
    rewrite: Callable[[bytes], bytes] | None = None,
) -> None:
    """Write the raw lines of `rows` in the order of `index` to `draft`; compressed by the suffix of `name`.

    rows_per_shard: `draft` is an empty folder, for parts with so many rows each (the last one has the rest).
    rewrite: a line -> what is written in its place; None = the line as it is.
    """
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Progress(desc="writing", total=len(index), unit="row", unit_scale=True))
        blocks = stack.enter_context(_reader(source))
        if rows_per_shard is None:
            parts = [(draft, index)]
        else:
            firsts = range(0, max(1, len(index)), rows_per_shard)
            names = part_names(len(firsts), compression(name))
            parts = (
                (draft / part, index[first : first + rows_per_shard]) for part, first in zip(names, firsts, strict=True)
            )
        for part, chosen in parts:
            with compressed(part, name) as out:
                written = blocks(_spans(source, rows, chosen, bar))
                _write(out, written if rewrite is None else (_rewritten(block, rewrite) for block in written))


def check_target(target: str, rows_per_shard: int | None) -> None:
    """Raises UserError where `target` cannot be written, or is a folder that holds anything but parts."""
    folder = Path(target)
    if rows_per_shard is None or not folder.exists():
        check_writable(folder)
    elif not folder.is_dir():
        raise UserError(f"cannot write {target}: with rows_per_shard it is a folder, and a file of that name is there")
    elif foreign := sorted(path.name for path in folder.iterdir() if not PART.fullmatch(path.name)):
        raise UserError(f"cannot replace the folder {target}: {foreign[0]} in it is no part-00000.jsonl")
    else:
        check_writable(manifest_path(folder))


def part_names(count: int, suffix: str) -> Iterator[str]:
    """`part-00000.jsonl` and so on, all of one length, so that they sort by number."""
    digits = max(5, len(str(count - 1)))
    return (f"part-{number:0{digits}d}.jsonl{suffix}" for number in range(count))


def compression(name: str) -> str:
    """The suffix of `name` by which it is compressed, or an empty text."""
    return next((suffix for suffix in (".gz", ".zst") if name.endswith(suffix)), "")


def _rewritten(block: bytes, rewrite: Callable[[bytes], bytes]) -> bytes:
    """A block of whole lines, each of them rewritten."""
    return b"".join(rewrite(line) + b"\n" for line in block[:-1].split(b"\n"))


def _write(out: BinaryIO, blocks: Iterable[bytes]) -> None:
    """Write while the disk stores what was written before: the fsync at the end has little left to wait for."""
    keep_freed_memory()
    with ThreadPoolExecutor(1) as disk:
        written, stored = 0, None
        for block in blocks:
            out.write(block)
            written += len(block)
            if written >= SYNC_BYTES and (stored is None or stored.done()):
                if stored:
                    stored.result()  # its errors are reported once
                written, stored = 0, disk.submit(os.fsync, out.fileno())
        if stored:
            stored.result()


def _spans(source: Source, rows: Rows, index: np.ndarray, bar: Progress) -> Iterator[Spans]:
    """Where the lines of `index` lie, about a block at a time."""
    bases = np.array([shard.base for shard in source.shards], dtype=np.int64)
    mean = (int(rows.end[-1]) - int(rows.start[0])) / len(rows) if len(rows) else 1
    step = max(1, int(WRITE_BLOCK / max(1, mean)))
    for first in range(0, len(index), 64 * step):  # few calls of numpy for many blocks
        chunk = index[first : first + 64 * step]
        start, end, shard = rows.start[chunk], rows.end[chunk], source.shard_numbers(rows.start[chunk])
        # Neighbours in both files are one span, with the newline between them; but no span leaves its block.
        begins = np.append(True, (start[1:] != end[:-1] + 1) | (shard[1:] != shard[:-1]))
        begins[::step] = True
        heads = np.flatnonzero(begins)
        tails, shard = np.append(heads[1:], len(chunk)) - 1, shard[heads]
        spans = zip(
            shard.tolist(), (start[heads] - bases[shard]).tolist(), (end[tails] - bases[shard]).tolist(), strict=True
        )
        blocks = np.searchsorted(heads, range(step, len(chunk) + step, step))
        yield from (list(islice(spans, count)) for count in np.diff(blocks, prepend=0).tolist())
        bar.update(len(chunk))


@contextlib.contextmanager
def _reader(source: Source) -> Iterator[Callable[[Iterable[Spans]], Iterator[bytes]]]:
    """The function that turns spans into blocks of whole lines, in their order."""
    if source.bytes <= free_memory() / 2:
        views = [mapped(shard) for shard in source.shards]
        yield partial(map, lambda spans: b"\n".join([views[k][start:end] for k, start, end in spans]) + b"\n")
    else:
        files = [shard.file.fileno() for shard in source.shards]
        yield partial(threaded_map, partial(_read_block, files), threads=THREADS)


def _read_block(files: list[int], spans: Spans) -> bytes:
    """The lines of `spans`, read by position: a fault of a mapped page would hold up all the others."""
    lines = []
    for shard, start, end in spans:
        line = os.pread(files[shard], end - start, start)
        while len(line) < end - start:  # a read gives 2 GiB at most
            more = os.pread(files[shard], end - start - len(line), start + len(line))
            if not more:
                raise UserError("the input became shorter while it was read")
            line += more
        lines.append(line)
    return b"\n".join(lines) + b"\n"


def free_memory() -> float:
    """Bytes that this process may still fill, cached files not counted: of the machine, its cgroup, or `ulimit -v`."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    limit = float("inf") if limit == resource.RLIM_INFINITY else limit
    with contextlib.suppress(OSError, StopIteration):
        with open("/proc/meminfo", encoding="ascii") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        with contextlib.suppress(OSError, ValueError, StopIteration):
            with open("/proc/self/cgroup", encoding="utf-8") as lines:
                group = next(line.strip()[4:] for line in lines if line.startswith("0::/"))
            free = min(free, int(Path("/sys/fs/cgroup", group, "memory.max").read_text(encoding="ascii")))
        return min(free, limit)
    return limit
