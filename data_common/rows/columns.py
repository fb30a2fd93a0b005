"""Columns of a source: the byte range of every usable row, and its wanted values as arrays."""

import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import xxhash

from data_common.calls.progress import Progress
from data_common.chat.settings import TextFormat, spelled_as
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.parallel.processes import cores, forked_map
from data_common.rows.json_line import Decoder, Id, Label, Number, Text, document_text
from data_common.rows.jsonl import BadRowPolicy, Part, Rows, Source, lines_of_part, raw_lines, read_part


class Column(NamedTuple):
    """What to read of each row.

    kind: "number" -> float64; "group" -> int32, the number of the row's group, groups counted by first appearance;
        "characters" -> int64, the length of the text; "turns" -> the same, of a row that is a conversation;
        "id" -> 16 bytes, a hash of it by which equal ids are known.
    fields: one name, or several of a text whose parts are joined by newlines; of turns `TextFormat.spelled`.
    """

    kind: Literal["number", "group", "characters", "turns", "id"]
    fields: tuple[str, ...]


PART = 2**26  # bytes of a source that a process reads at a time
TYPES = {"number": Number, "group": Label, "characters": Text, "id": Id}
EXACT = 2**53  # the next whole number is rounded to it
CODES = {"number": "d", "group": "i", "characters": "q", "turns": "q", "id": "q"}  # an id has two of them
HASH = "S16"


def number(field: str) -> Column:
    """The column of a numeric field."""
    return Column("number", (field,))


def text_column(text_field: Sequence[str], reading: TextFormat) -> Column:
    """The column of the text of a row."""
    return (
        Column("characters", tuple(text_field))
        if reading.text_format is None
        else Column("turns", (reading.spelled(),))
    )


@dataclass(frozen=True)
class Table:
    """The usable rows of a source and the columns that were read, each an array of (rows,)."""

    rows: Rows
    columns: dict[Column, np.ndarray]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: np.ndarray) -> "Table":
        """Only these rows, in this order."""
        return Table(self.rows.take(index), {column: values[index] for column, values in self.columns.items()})


def scan(source: Source, columns: Sequence[Column] | None, on_bad_row: BadRowPolicy = "error") -> Table:
    """Read every row of `source` once; a large one by several processes.

    columns: None = every line that is not blank is a row, and nothing in it is decoded or checked.
    Raises: UserError `FILE:LINE: reason` at the first bad row, unless they are dropped (and counted in `source`);
    where one field is asked for as two different things.
    """
    if columns is None:
        return _lines(source)
    types = types_of(columns, source)
    found, groups = _Found(columns), [{} for _ in columns]
    source.forget_counts()
    for more, labels, counted in _by_parts(source, partial(_scan_part, source, columns, types, on_bad_row)):
        for known, new, codes in zip(groups, labels, more.values, strict=True):
            if new:  # the part has numbered its groups by itself
                numbers = np.array([known.setdefault(label, len(known)) for label in new], np.int32)
                codes[:] = array("i", numbers[codes].tobytes())
        found.extend(more)
        source.blank += counted.blank
        source.dropped += counted.dropped
        source.dropped_at += counted.dropped_at
        source.rounded += counted.rounded
    kinds = ["q", "q", *(HASH if column.kind == "id" else CODES[column.kind] for column in columns)]
    arrays = [np.frombuffer(v, kind) for v, kind in zip((found.start, found.end, *found.values), kinds, strict=True)]
    warn_of_rounded(source.rounded)
    return Table(Rows(*arrays[:2]), dict(zip(columns, arrays[2:], strict=True)))


def _lines(source: Source) -> Table:
    none = np.empty(0, np.int64)
    starts, ends = [none], [none]
    source.forget_counts()
    for start, end, blank in _by_parts(source, partial(_lines_of_part, source)):
        starts.append(start)
        ends.append(end)
        source.blank += blank
    return Table(Rows(np.concatenate(starts), np.concatenate(ends)), {})


def _by_parts(source: Source, function: Callable[[Part], Any]) -> Iterator[Any]:
    """What `function` gives for each part of the source, in order; of a large source by several processes."""
    parts, workers = source.parts(PART), max(1, min(cores(), source.bytes // PART))
    with Progress(desc="reading", total=source.bytes, unit="B", unit_scale=True) as bar:
        for part, result in zip(parts, forked_map(function, parts, workers), strict=True):
            yield result
            bar.update(part.end - part.begin)


def _lines_of_part(source: Source, part: Part) -> tuple[np.ndarray, np.ndarray, int]:
    """First bytes and ends of the lines of a part, and how many are blank."""
    source = replace(source, blank=0)
    found = [np.concatenate(some) for some in zip(*lines_of_part(source, part), strict=True)]
    start, end = found or [np.empty(0, np.int64)] * 2
    return start, end, source.blank


def warn_of_rounded(rounded: Mapping[str, int]) -> None:
    """One line for each field of which so many numbers lost digits when they were read."""
    for field, count in rounded.items():
        what = f"{count:,} values of {visible(field)} are whole numbers beyond 2^53 that lose their last digits"
        print(f"warning: {what}: they are compared as floating point, equal ones by position", file=sys.stderr)


class _Found:
    """Growing arrays of a table."""

    def __init__(self, columns: Sequence[Column]):
        self.start, self.end = array("q"), array("q")
        self.values = [array(CODES[column.kind]) for column in columns]

    def extend(self, other: "_Found") -> None:
        self.start.extend(other.start)
        self.end.extend(other.end)
        for values, more in zip(self.values, other.values, strict=True):
            values.extend(more)


def _scan_part(
    source: Source, columns: Sequence[Column], types: Mapping[str, Any], on_bad_row: BadRowPolicy, part: Part
) -> tuple[_Found, list[list], Source]:
    """Rows of a part; for each column the labels of its groups; the counts of the part, in a source without shards."""
    source = replace(source, blank=0, dropped=Counter(), rounded=Counter(), dropped_at=[])
    found, groups = _Found(columns), [{} for _ in columns]
    converters = [_converter(column, known) for column, known in zip(columns, groups, strict=True)]
    for start, end, values in read_part(source, part, types, on_bad_row):
        found.start.frombytes(start.tobytes())
        found.end.frombytes(end.tobytes())
        by_field = dict(zip(types, [values] if len(types) == 1 else zip(*values, strict=True), strict=False))
        for column, convert, numbers in zip(columns, converters, found.values, strict=True) if values else ():
            texts = [by_field[name] for name in column.fields]
            numbers.extend(convert(texts[0] if len(texts) == 1 else zip(*texts, strict=True)))
    for column, numbers in zip(columns, found.values, strict=True):
        if column.kind == "number" and (count := _rounded(source, found, column.fields[0], numbers)):
            source.rounded[column.fields[0]] = count
    return found, [list(known) for known in groups], replace(source, shards=[])


def _rounded(source: Source, found: _Found, field: str, numbers: array) -> int:
    """How many whole numbers of the field became another: beyond 2^53 not each has a floating-point number."""
    large = np.flatnonzero(np.abs(np.frombuffer(numbers)) >= EXACT)
    if not len(large):
        return 0
    rows = Rows(np.frombuffer(found.start, np.int64)[large], np.frombuffer(found.end, np.int64)[large])
    decode = Decoder({field: int | float})
    written = (decode(line, valid_utf8=True) for line in raw_lines(source, rows))
    pairs = zip(written, large.tolist(), strict=True)
    return sum(isinstance(value, int) and value != int(numbers[index]) for value, index in pairs)


def types_of(columns: Sequence[Column], source: Source) -> dict[str, Any]:
    """Field -> its type for a decoder. Raises: UserError where one field is asked for as two different things."""
    types: dict[str, Any] = {}
    for column in columns:
        for name in column.fields:
            if column.kind == "turns":
                types[name] = types.get(name) or spelled_as(name).reader(source)
            elif types.setdefault(name, TYPES[column.kind]) != TYPES[column.kind]:
                raise UserError(f"{name} cannot be a {column.kind} column and another kind of column at once")
    return types


def _hashed(value: str | int) -> bytes:
    """16 bytes: equal for equal ids; the text "1" is not the number 1."""
    return xxhash.xxh3_128_digest(f"{'s' if isinstance(value, str) else 'i'}{value}".encode())


def _converter(column: Column, groups: dict[Any, int]) -> Callable[[Iterable], Iterable]:
    """Decoded values -> numbers of the column's array; groups that were not known get the next number."""
    if column.kind == "number":
        return lambda values: values
    if column.kind in ("characters", "turns"):
        return lambda values: (len(document_text(value)) for value in values)
    if column.kind == "id":
        return lambda values: array("q", b"".join(map(_hashed, values)))

    def code(value: Any) -> int:
        if isinstance(value, bool):  # true is not the number 1
            value = "true" if value else "false"
        return groups.setdefault(value, len(groups))

    return lambda values: map(code, values)
