"""Opened score files: the fields that they hold, their values, and rows of them written for another corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data_common.files.atomic import write_array
from data_common.messages.errors import UserError
from data_common.rows.columns import EXACT, Column, Table, number, scan, types_of, warn_of_rounded
from data_common.rows.json_line import BadRow, lookup
from data_common.rows.jsonl import BadRowPolicy, Rows, Source, first_row, first_rows
from data_common.rows.write_rows import compression, write_lines


@dataclass(frozen=True)
class Entries:
    """The usable rows of score files.

    number: (m,) of each, counted through all files, unusable ones too. columns: (m,) each. file_rows: (files,), how
    many rows each file has.
    """

    number: np.ndarray
    columns: dict[Column, np.ndarray]
    file_rows: np.ndarray


class ScoreFile(Protocol):
    """What arrays and JSON lines of scores have in common."""

    def names(self) -> list[str]:
        """The fields of a row."""

    def holds(self, column: Column) -> bool:
        """Whether the values of a column stand in the files."""

    def check(self, columns: Sequence[Column], on_bad_row: BadRowPolicy) -> None:
        """Raises UserError for what is soon seen to be wrong with the files."""

    def read(self, columns: Sequence[Column], on_bad_row: BadRowPolicy) -> Entries:
        """The values of these columns. Raises: UserError."""

    def place(self, entry: int) -> str:
        """Where a usable row stands, for a message."""

    def suffix(self, output: str) -> str:
        """Of the file that `write` makes for the rows of `output`."""

    def write(self, draft: Path, name: str, entries: np.ndarray) -> None:
        """The usable rows of these numbers, in this order, as they are."""


class ArrayFiles:
    """.npy files of one number a row; NaN, or infinity, where there is none."""

    def __init__(self, paths: Sequence[str], field: str):
        """Raises UserError for a file that is no such array."""
        self.paths, self.field = paths, field
        self.arrays = [_array(path) for path in paths]

    def names(self) -> list[str]:
        return [self.field]

    def holds(self, column: Column) -> bool:
        return column == number(self.field)

    def check(self, columns: Sequence[Column], on_bad_row: BadRowPolicy) -> None:
        """They were looked at when they were opened."""

    def read(self, columns: Sequence[Column], on_bad_row: BadRowPolicy) -> Entries:
        values = np.concatenate([array.astype(float) for array in self.arrays])
        self.usable = np.flatnonzero(np.isfinite(values))
        if count := sum(map(_rounded, self.arrays)):
            warn_of_rounded({self.field: count})
        return Entries(self.usable, {number(self.field): values[self.usable]}, np.array([*map(len, self.arrays)]))

    def place(self, entry: int) -> str:
        return f"{', '.join(self.paths)}: number {self.usable[entry]}"

    def suffix(self, output: str) -> str:
        return ".npy"

    def write(self, draft: Path, name: str, entries: np.ndarray) -> None:
        with open(draft, "wb") as file:
            write_array(file, np.concatenate(self.arrays)[self.usable[entries]])


class LineFiles:
    """JSON lines: a row with scores for each row of the corpus, or for each id."""

    def __init__(self, source: Source, on_bad_row: BadRowPolicy):
        """source: the opened files. Raises: UserError where there is no row."""
        self.source = source
        start, self.first = first_row(source, on_bad_row)
        if start is None:
            raise UserError(f"scores={source.path} holds no rows")

    def names(self) -> list[str]:
        return list(self.first)

    def holds(self, column: Column) -> bool:
        return column.kind == "number" and self.has(column.fields[0])

    def has(self, field: str) -> bool:
        """Whether the first row has the field."""
        try:
            lookup(self.first, field)
        except BadRow:
            return False
        return True

    def check(self, columns: Sequence[Column], on_bad_row: BadRowPolicy) -> None:
        first_rows(self.source, types_of(columns, self.source), on_bad_row)

    def read(self, columns: Sequence[Column], on_bad_row: BadRowPolicy) -> Entries:
        self.table: Table = scan(self.source, columns, on_bad_row)
        rows: Rows = self.table.rows
        return Entries(self.source.row_numbers(rows), self.table.columns, self.source.shard_rows(rows))

    def place(self, entry: int) -> str:
        return self.source.place(int(self.table.rows.start[entry]))

    def suffix(self, output: str) -> str:
        return f".jsonl{compression(output)}"

    def write(self, draft: Path, name: str, entries: np.ndarray) -> None:
        write_lines(draft, name, self.source, self.table.rows, entries)


def _array(path: str) -> np.ndarray:
    """Mapped. Raises: UserError where it is no array of one number a row."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"scores={path}: no array of numbers can be read: {error}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "fiu":
        raise UserError(f"scores={path}: one number a row is wanted, (rows,), not {_shape(array)}")
    return array


def _rounded(array: np.ndarray) -> int:
    """How many whole numbers have no equal one of floating point."""
    large = array[(array > EXACT) | (array < -EXACT)] if array.dtype.kind in "iu" else ()
    return sum(int(float(value)) != int(value) for value in large)


def _shape(array: Any) -> str:
    return f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
