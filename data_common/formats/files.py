"""Files of one format, here or on the hub, as one sequence of JSON lines that can be resumed at any row."""

import contextlib
import functools
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from data_common.formats.csv_rows import Reader, cells_of, column_readers, csv_rows
from data_common.formats.json_rows import json_lines, json_rows
from data_common.formats.opening import HUB, READ_ERRORS, TABLES, format_of, opened, opened_plain, suffix_of
from data_common.messages.errors import UserError

READERS = {"lines": json_lines, "json": json_rows}


class FileRows:
    """The rows of files as lines; `place` (file, rows of it) is behind the line that was given out last."""

    def __init__(self, names: Sequence[str], delimiter: str | None = None, most: int | None = None):
        """names: of files of one format. delimiter: None: tab in .tsv, comma in .csv. most: rows that will be read."""
        self.names, self.format, self.delimiter, self.most = list(names), format_of(names[0]), delimiter, most
        self.place: Sequence[int] = (0, 0)

    @functools.cached_property
    def readers(self) -> dict[str, Reader]:
        """Of the columns of .csv that are not text: all rows that will be read are looked at to know them."""
        return column_readers(itertools.islice(self._cells(), self.most))

    def lines(self, done: int = 0, place: Sequence[int] | None = None) -> Iterator[bytes]:
        """Those behind a place. Raises: UserError with file and line or column for rows that cannot be had."""
        self.place = first, done = place or (0, 0)
        for number in range(first, len(self.names)):
            for row, line in enumerate(self.rows_of(self.names[number], done), done + 1):
                self.place = (number, row)
                yield line
            done = 0

    def rows_of(self, name: str, skip: int = 0) -> Iterator[bytes]:
        """The lines of one file after the first `skip`."""
        with _readable(name):
            if self.format in TABLES.values():
                with opened(name, cache_type="none") as file:
                    yield from _table_rows(self.format)(file, name, skip)
                return
            with opened_plain(name) as plain:
                if self.format == "csv":
                    rows = csv_rows(self._table(plain, name), self.readers)
                else:
                    rows = READERS[self.format](plain, name)
                yield from itertools.islice(rows, skip, None)

    def _table(self, plain: io.BufferedReader, name: str) -> Iterator[list[str]]:
        return cells_of(plain, name, self.delimiter or ("\t" if suffix_of(name) == ".tsv" else ","))

    def _cells(self) -> Iterator[tuple[list[str], list[str]]]:
        """Of each row of .csv: the names of the columns, the cells."""
        for name in self.names:
            with _readable(name), opened_plain(name) as plain:
                table = self._table(plain, name)
                columns = next(table)
                yield from ((columns, cells) for cells in table)


def _table_rows(format: str) -> Callable[[BinaryIO, str, int], Iterator[bytes]]:
    """What reads the rows of a file: slow to import."""
    if format == "arrow":
        from data_common.formats.arrow_rows import arrow_rows

        return arrow_rows
    from data_common.formats.parquet_rows import parquet_rows

    return parquet_rows


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Raises UserError where a file cannot be read; what the client of a store raises may stand for a broken line."""
    try:
        yield
    except READ_ERRORS as error:
        final = isinstance(error, FileNotFoundError | PermissionError) and not name.startswith(HUB)
        if "://" in name and isinstance(error, OSError) and not final:
            raise
        raise UserError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error
