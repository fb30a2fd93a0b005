"""Reading JSONL: decode only the wanted fields of each line, hand the line itself on byte for byte.

A `Source` is one path, a glob or a folder of shards, read as one sequence of lines. Rows are known by the byte
range of their line; text is never decoded and encoded again, so every field survives as it was written.
"""

import contextlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from data_common.calls.progress import Progress
from data_common.files.contents import digest_of, stamp_of
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.rows.json_line import BadRow, Decoder, FieldExists, long_integer
from data_common.rows.shards import Shard, mapped, open_shards

BadRowPolicy = Literal["error", "drop"]

TEXT_KEYS = {  # key of a path -> key of the text field in it, where that is not text_field
    "target_data": "target_field",
    "train_data": "train_field",
    "contamination_data": "contamination_field",
    "positive_data": "example_field",
    "negative_data": "example_field",
}
READ_BLOCK = 2**18  # bytes decoded as UTF-8 and split at a time
LOOK = 16  # blocks that are looked at before a file is read
CARRIAGE_RETURN = 13
SPACE = 32  # a line that begins with a larger byte is not blank
HIGH_BITS = np.uint64(0x8080808080808080)  # of eight bytes: zero where all are ASCII
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Part(NamedTuple):
    """The lines of a shard that begin in [begin, end), in bytes of the shard."""

    shard: int
    begin: int
    end: int


@dataclass
class Source:
    """One or more shards in order. Offsets of rows count through all of them."""

    path: str
    shards: list[Shard]
    key: str = ""  # of the call that names it; empty for IN
    blank: int = 0
    dropped: Counter = field(default_factory=Counter)  # reason -> rows that on_bad_row=drop left out
    rounded: Counter = field(default_factory=Counter)  # field -> whole numbers that were read as a neighbouring one
    dropped_at: list[int] = field(default_factory=list)  # where the lines of the dropped rows begin, ascending

    @property
    def bytes(self) -> int:
        return sum(shard.size for shard in self.shards)

    def forget_counts(self) -> None:
        """Before a reading."""
        self.blank, self.dropped, self.rounded, self.dropped_at = 0, Counter(), Counter(), []

    def shard_numbers(self, offsets: np.ndarray) -> np.ndarray:
        """Of the lines that begin at these offsets, (n,) -> (n,)."""
        bases = np.array([shard.base for shard in self.shards], dtype=np.int64)
        return np.searchsorted(bases, offsets, side="right") - 1

    def row_numbers(self, rows: "Rows") -> np.ndarray:
        """The number of each row that the last reading gave, (n,), among all rows: dropped ones count, blank lines do
        not.
        """
        return np.arange(len(rows)) + np.searchsorted(self.dropped_at, rows.start)

    def shard_rows(self, rows: "Rows") -> np.ndarray:
        """How many rows each shard has, (shards,), those included that the last reading dropped."""
        dropped = np.array(self.dropped_at, np.int64)
        return np.bincount(self.shard_numbers(np.append(rows.start, dropped)), minlength=len(self.shards))

    def parts(self, size: int) -> list[Part]:
        """All lines in order, in parts of about so many bytes."""
        return [
            Part(number, begin, min(begin + size, shard.size))
            for number, shard in enumerate(self.shards)
            for begin in range(0, shard.size, size)
        ]

    def place(self, start: int) -> str:
        """`FILE:LINE` of the row that starts at this offset."""
        return self.places([start])[0]

    def places(self, starts: Sequence[int]) -> list[str]:
        """`place` of several rows, by one look at what lies before the last of them."""
        found, known, begin, newlines = {}, None, 0, 0
        for start in sorted(set(starts)):
            shard = next(shard for shard in reversed(self.shards) if shard.base <= start)
            if shard is not known:
                known, begin, newlines = shard, 0, 0
            view = mapped(shard)[begin : start - shard.base]
            newlines += sum(bytes(view[i : i + READ_BLOCK]).count(b"\n") for i in range(0, len(view), READ_BLOCK))
            begin += len(view)
            found[start] = f"{shard.name}:{newlines + 1}"
        return [found[start] for start in starts]

    def check_unchanged(self, fingerprints: Sequence[Mapping[str, Any]]) -> None:
        """Raises UserError where a shard was written to or replaced since it was opened: what was read may be torn.

        fingerprints: of the shards, made before they were read.
        """
        for shard, known in zip(self.shards, fingerprints, strict=True):
            try:
                stamp = stamp_of(shard.name)
                same = stamp == shard.stamp or (
                    stamp[0] == shard.stamp[0] and digest_of([(".", Path(shard.name))])[1] == known["xxh3"]
                )
            except OSError:
                same = False
            if not same:
                raise UserError(f"{shard.name} was changed while it was read: run again when nothing writes to it")

    def counts(self) -> dict[str, Any]:
        """What the last reading left out, for the manifest."""
        rounded = {"rounded_numbers": dict(self.rounded)} if self.rounded else {}
        return {"blank_lines": self.blank, "dropped_rows": dict(self.dropped)} | rounded


@dataclass(frozen=True)
class Rows:
    """Byte ranges [start, end) of the usable lines of a source, without line ends."""

    start: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: np.ndarray) -> "Rows":
        """Only these rows."""
        return Rows(self.start[index], self.end[index])


@contextlib.contextmanager
def open_source(path: str, whole: bool = True, key: str = "", files: Sequence[str] | None = None) -> Iterator[Source]:
    """Open a file, a glob or a folder of shards. whole, key, files, Raises: as in `open_shards`."""
    with open_shards(path, whole, key, files) as shards:
        yield Source(path, shards, key)


def read_rows(
    source: Source, fields: Mapping[str, Any], on_bad_row: BadRowPolicy = "error", progress: str | None = None
) -> Iterator[tuple[int, int, Any]]:
    """Yield (start, end, values) for each usable row; values is one value for one field, else a tuple.

    fields: name -> `Number`, `Text` or another type that msgspec knows; all of them must be there.
    Raises: UserError `FILE:LINE: reason` at the first bad row, unless they are dropped (and counted).
    """
    for start, end, values in read_blocks(source, fields, on_bad_row, progress):
        yield from zip(start.tolist(), end.tolist(), values, strict=True)


def read_blocks(
    source: Source, fields: Mapping[str, Any], on_bad_row: BadRowPolicy = "error", progress: str | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, list]]:
    """`read_rows` for some hundred kilobytes at a time: (starts, ends, list of values), all of one length."""
    source.forget_counts()
    with Progress(desc=progress, total=source.bytes, unit="B", unit_scale=True, disable=progress is None) as bar:
        for part in source.parts(max(1, source.bytes)):
            for start, end, values in read_part(source, part, fields, on_bad_row):
                yield start, end, values
                bar.update(int(end[-1]) - bar.n if len(end) else 0)


def read_part(
    source: Source, part: Part, fields: Mapping[str, Any], on_bad_row: BadRowPolicy
) -> Iterator[tuple[np.ndarray, np.ndarray, list]]:
    """`read_blocks` for a part of the source; rows that it leaves out are added to the count."""
    decoder, base = Decoder(fields), source.shards[part.shard].base
    for position, block in _blocks(source.shards[part.shard], part.begin, part.end):
        valid_utf8 = block.isascii() or _is_utf8(block)
        start, end = _line_bounds(block)
        good, values = slice(None), decoder.all_or_none(block, start, end) if valid_utf8 else None
        if values is None:  # something is bad or odd: line by line
            lines = [(base + position + i, block[i:j]) for i, j in zip(start.tolist(), end.tolist(), strict=True)]
            good, values = _usable(source, decoder, lines, valid_utf8, on_bad_row)
        yield start[good] + base + position, end[good] + base + position, values


def lines_of_part(source: Source, part: Part) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(starts, ends) of the lines that are not blank, for a block at a time; nothing in them is decoded or checked."""
    base = source.shards[part.shard].base
    for position, block in _blocks(source.shards[part.shard], part.begin, part.end):
        start, end = _line_bounds(block)
        filled = np.frombuffer(block, np.uint8)[start] > SPACE
        odd = np.flatnonzero(~filled)
        filled[odd] = [bool(block[i:j].strip()) for i, j in zip(start[odd], end[odd], strict=True)]
        source.blank += len(filled) - int(filled.sum())
        yield start[filled] + base + position, end[filled] + base + position


def _line_bounds(block: bytes) -> tuple[np.ndarray, np.ndarray]:
    """First byte and end of every line of a block that ends with a newline, line ends left out."""
    ends, end = [], block.find(b"\n")
    while end >= 0:  # quicker than to split it
        ends.append(end)
        end = block.find(b"\n", end + 1)
    end = np.array(ends)
    start = np.append(0, end[:-1] + 1)
    end -= np.frombuffer(block, np.uint8)[end - 1] == CARRIAGE_RETURN
    return start, end


def _usable(
    source: Source, decoder: Decoder, lines: Iterable[tuple[int, bytes]], valid_utf8: bool, on_bad_row: str
) -> tuple[list[int], list]:
    """Numbers and values of the usable lines; blank and dropped ones are counted in `source`.

    lines: offset in the source, and content. Raises: UserError.
    """
    good, values = [], []
    for number, (offset, line) in enumerate(lines):
        try:
            values.append(decoder(line, valid_utf8))
            good.append(number)
        except BadRow as bad:
            if not line.strip():
                source.blank += 1
            elif on_bad_row == "drop" and not isinstance(bad, FieldExists):
                source.dropped[str(bad)] += 1
                source.dropped_at.append(offset)
            else:
                cure = bad.cure.replace("{key}", TEXT_KEYS.get(source.key, "text_field"))
                raise UserError(f"{source.place(offset)}: {bad}{cure}") from None
    return good, values


def raw_lines(source: Source, rows: Rows) -> Iterator[bytes]:
    """The lines of `rows`, without line ends."""
    views = [mapped(shard) for shard in source.shards]
    bases = np.array([shard.base for shard in source.shards], dtype=np.int64)
    shards = source.shard_numbers(rows.start)
    for shard, start, end in zip(shards, rows.start - bases[shards], rows.end - bases[shards], strict=True):
        yield bytes(views[shard][start:end])


def first_row(source: Source, on_bad_row: BadRowPolicy = "error") -> tuple[int | None, dict[str, Any]]:
    """Offset and fields of the first usable row; None and no fields if no row is usable. Raises: as `read_rows`."""
    for start, end, _ in read_rows(source, {}, on_bad_row):
        [line] = raw_lines(source, Rows(np.array([start]), np.array([end])))
        return start, json.loads(line, parse_int=long_integer)
    return None, {}


def first_rows(
    source: Source, fields: Mapping[str, Any], on_bad_row: BadRowPolicy = "error"
) -> tuple[np.ndarray, np.ndarray, list]:
    """`read_blocks` up to the first block with usable rows, but not far into a file: a look, not a scan.

    Raises: UserError where there is no row, and for a bad one, unless they are dropped.
    """
    for block in itertools.islice(read_blocks(source, fields, on_bad_row), LOOK):
        if block[2]:
            return block
    if not source.dropped:
        raise UserError(f"{source.path} holds no rows")
    print(f"note: none of the first rows of {visible(source.path)} can be used: {dict(source.dropped)}")
    return np.empty(0, np.int64), np.empty(0, np.int64), []


def _blocks(shard: Shard, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(offset, whole lines) of the lines that begin in [begin, end), about a READ_BLOCK at a time.

    Each block ends with a newline, also the last line of a file. Several processes may read the same open file.
    """
    keep_freed_memory()
    file, position = shard.file.fileno(), _line_begin(shard, begin)
    while position < end:
        block = os.pread(file, READ_BLOCK, position)
        if not block:
            raise UserError(f"{shard.name} became shorter while it was read")
        whole = block.find(b"\n", end - 1 - position) + 1 or block.rfind(b"\n") + 1
        while not whole:  # a long line, or the last one
            more = os.pread(file, len(block), position + len(block)) or b"\n"
            whole = len(block) + newline if (newline := more.find(b"\n") + 1) else 0
            block += more
        yield position, block[:whole]
        position += whole


def keep_freed_memory() -> None:
    """Freeing something large once keeps glibc from giving back the memory of each block (of 4 MB at most)."""
    bytes(2**22)


def _line_begin(shard: Shard, offset: int) -> int:
    """The first byte from `offset` on with which a line begins; the size of the file if no line begins there."""
    file, position = shard.file.fileno(), offset - 1
    first = len(BYTE_ORDER_MARK) if os.pread(file, 3, 0) == BYTE_ORDER_MARK else 0
    if offset <= first:
        return first
    while block := os.pread(file, READ_BLOCK, position):
        if newline := block.find(b"\n") + 1:
            return position + newline
        position += len(block)
    return shard.size


def _is_utf8(block: bytes) -> bool:
    """Whether the block is valid UTF-8. Words of eight ASCII bytes matter only where they end a run of other ones."""
    words = np.frombuffer(block, np.uint64, len(block) // 8)
    kept = (words & HIGH_BITS) != 0
    kept[1:] |= kept[:-1]
    try:
        (words[kept].tobytes() + block[words.nbytes :]).decode()
    except UnicodeDecodeError:
        return False
    return True
