"""Columns of a source: the byte range of every usable row, and its wanted values as arrays."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import numpy as np

from common.errors import UserError
from common.json_line import Label, Number, Text, document_text
from common.jsonl import BadRowPolicy, Rows, Source, read_rows


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
    arrays = [array(CODES[column.kind]) for column in columns]
    appends = [_appender(column, values) for column, values in zip(columns, arrays, strict=True)]
    lines = read_rows(source, types, on_bad_row, progress="reading")
    if len(types) == 1 and len(columns) == 1:
        append = appends[0]
        for begin, stop, value in lines:
            start.append(begin)
            end.append(stop)
            append(value)
    else:
        position = {name: number for number, name in enumerate(types)}
        # The values of a row are a tuple of all fields, or the bare value where there is one field.
        takes = [itemgetter(*(position[name] for name in column.fields)) for column in columns]
        for begin, stop, values in lines:
            start.append(begin)
            end.append(stop)
            for append, take in zip(appends, takes, strict=True):
                append(take(values) if len(types) > 1 else values)
    found = {column: np.frombuffer(values, CODES[column.kind]) for column, values in zip(columns, arrays, strict=True)}
    return Table(Rows(np.frombuffer(start, np.int64), np.frombuffer(end, np.int64)), found)


def _appender(column: Column, values: array) -> Callable[[Any], None]:
    """How a decoded value goes into the array of its column."""
    if column.kind == "number":
        return values.append
    if column.kind == "characters":
        return lambda value: values.append(len(document_text(value)))
    groups: dict[Any, int] = {}

    def append(value: Any) -> None:
        if isinstance(value, bool):  # true is not the number 1
            value = "true" if value else "false"
        values.append(groups.setdefault(value, len(groups)))

    return append
