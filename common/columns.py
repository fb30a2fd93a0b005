"""Columns of a source: the byte range of every usable row, and its wanted values as arrays."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from common.errors import UserError
from common.json_line import Label, Number, Text, document_text
from common.jsonl import BadRowPolicy, Rows, Source, read_blocks


class Column(NamedTuple):
    """What to read of each row.

    kind: "number" -> float64; "group" -> int32, the number of the row's group, groups counted by first appearance;
        "characters" -> int64, the length of the text.
    fields: one name, or several of a text whose parts are joined by newlines.
    """

    kind: Literal["number", "group", "characters"]
    fields: tuple[str, ...]


TYPES = {"number": Number, "group": Label, "characters": Text}
CODES = {"number": "d", "group": "i", "characters": "q"}


def number(field: str) -> Column:
    """The column of a numeric field."""
    return Column("number", (field,))


@dataclass(frozen=True)
class Table:
    """The usable rows of a source and the columns that were read, each an array of (rows,)."""

    rows: Rows
    columns: dict[Column, np.ndarray]

    def __len__(self) -> int:
        return len(self.rows)


def scan(source: Source, columns: Sequence[Column], on_bad_row: BadRowPolicy = "error") -> Table:
    """Read every row of `source` once.

    Raises: UserError `FILE:LINE: reason` at the first bad row, unless they are dropped (and counted in `source`);
    where one field is asked for as two different things.
    """
    types: dict[str, Any] = {}
    for column in columns:
        for name in column.fields:
            if types.setdefault(name, TYPES[column.kind]) != TYPES[column.kind]:
                raise UserError(f"{name} cannot be a {column.kind} column and another kind of column at once")
    start, end = array("q"), array("q")
    arrays = {column: array(CODES[column.kind]) for column in columns}
    converters = {column: _converter(column) for column in columns}
    for block_start, block_end, values in read_blocks(source, types, on_bad_row, progress="reading"):
        start.frombytes(block_start.tobytes())
        end.frombytes(block_end.tobytes())
        by_field = dict(zip(types, [values] if len(types) == 1 else zip(*values, strict=True), strict=False))
        for column in columns if values else ():
            parts = [by_field[name] for name in column.fields]
            arrays[column].extend(converters[column](parts[0] if len(parts) == 1 else zip(*parts, strict=True)))
    found = {column: np.frombuffer(values, CODES[column.kind]) for column, values in arrays.items()}
    return Table(Rows(np.frombuffer(start, np.int64), np.frombuffer(end, np.int64)), found)


def _converter(column: Column) -> Callable[[Iterable], Iterable]:
    """Decoded values -> numbers of the column's array."""
    if column.kind == "number":
        return lambda values: values
    if column.kind == "characters":
        return lambda values: (len(document_text(value)) for value in values)
    groups: dict[Any, int] = {}

    def code(value: Any) -> int:
        if isinstance(value, bool):  # true is not the number 1
            value = "true" if value else "false"
        return groups.setdefault(value, len(groups))

    return lambda values: map(code, values)
