"""The texts of a JSONL source, checked once and then read from the file whenever they are needed."""

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import compress
from typing import Any

import msgspec
import numpy as np

from data_common.messages.errors import UserError
from data_common.rows.json_line import Decoder, Number, Text, document_text
from data_common.rows.jsonl import BadRowPolicy, Rows, Source, first_rows, raw_lines, read_rows
from data_common.rows.whole_row import WholeRow

KEPT = 2**23  # characters of a corpus whose texts stay in memory once they were decoded
TURNS = "the turns"  # what a reader is wanted under
OBJECT = 64  # what a text costs beside its characters


class Texts:
    """The non-empty texts of the usable rows, as an iterable that can be read again; in memory only if small."""

    def __init__(
        self,
        source: Source,
        text_field: str | list[str],
        on_bad_row: BadRowPolicy = "error",
        absent: Iterable[str] = (),
        numbers: Collection[str] = (),
        reader: WholeRow | None = None,
    ):
        """Read and check every row.

        text_field: field, or list of fields joined by newlines. absent: fields that must not be there.
        numbers: fields in which a usable row has a number. reader: makes the text, in place of the text field.
        Raises: UserError at the first bad row (unless dropped), or where there is no row.
        """
        self.fields = text_types(text_field, absent, numbers, reader)
        self.text_fields = _count(text_field, reader)
        self.source, self.on_bad_row = source, on_bad_row
        starts, ends, blank = array("q"), array("q"), bytearray()
        self.kept: list[str] | None = []  # the texts, unless they are too large together
        size = 0
        for start, end, text in self._read("reading"):
            starts.append(start)
            ends.append(end)
            blank.append(not text.strip())
            size += len(text) + OBJECT
            if size > KEPT:
                self.kept = None
            elif not blank[-1]:
                self.kept.append(text)
        if not starts:
            raise UserError(f"{source.path} holds no rows")
        self.rows = Rows(np.frombuffer(starts, np.int64), np.frombuffer(ends, np.int64))
        self.blank = np.frombuffer(blank, bool)  # rows without any text, which iteration leaves out

    def __len__(self) -> int:
        return int((~self.blank).sum())

    def __iter__(self) -> Iterator[str]:
        if self.kept is not None:
            yield from self.kept
            return
        for _, _, text in self._read():
            if text.strip():
                yield text

    def some(self, numbers: np.ndarray) -> Iterator[str]:
        """The texts of these numbers, in their order; the others are not decoded."""
        if self.kept is not None:
            yield from (self.kept[number] for number in numbers)
            return
        rows = self.rows.take(np.flatnonzero(~self.blank)[numbers])
        decode = Decoder(self.fields)
        for line in raw_lines(self.source, rows):
            yield self._text(decode(line, valid_utf8=True))

    def text(self, row: int) -> str:
        """The text of one usable row."""
        [line] = raw_lines(self.source, self.rows.take(np.array([row])))
        return self._text(Decoder(self.fields)(line, valid_utf8=True))

    def _read(self, progress: str | None = None) -> Iterator[tuple[int, int, str]]:
        for start, end, values in read_rows(self.source, self.fields, self.on_bad_row, progress):
            yield start, end, self._text(values)

    def _text(self, values: Any) -> str:
        return _joined(values, self.text_fields)


def some(texts: Sequence[str], numbers: np.ndarray) -> Iterator[str]:
    """Those of `texts` that have these numbers, ascending."""
    if isinstance(texts, Texts):
        return texts.some(numbers)
    wanted = np.zeros(len(texts), bool)
    wanted[numbers] = True
    return compress(texts, wanted)


class RowTexts:
    """The text of each of `rows`, without checks: of rows that were scanned. It can be iterated over again."""

    def __init__(self, source: Source, rows: Rows, fields: Sequence[str], reader: WholeRow | None = None):
        """fields: of the text, joined by newlines. reader: makes the text, in their place."""
        self.source, self.rows = source, rows
        self.types = dict.fromkeys(fields, Text) if reader is None else {TURNS: reader}

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[str]:
        decode = Decoder(self.types)
        return (document_text(decode(line, True)) for line in raw_lines(self.source, self.rows))


def first_texts(
    source: Source,
    text_field: str | list[str],
    on_bad_row: BadRowPolicy = "error",
    absent: Iterable[str] = (),
    numbers: Collection[str] = (),
    reader: WholeRow | None = None,
) -> tuple[Rows, np.ndarray]:
    """Of the first rows, as `Texts` has it: (their lines, which are without any text). Raises: as `first_rows`."""
    count = _count(text_field, reader)
    start, end, values = first_rows(source, text_types(text_field, absent, numbers, reader), on_bad_row)
    return Rows(start, end), np.array([not _joined(one, count).strip() for one in values], bool)


def text_types(
    text_field: str | list[str],
    absent: Iterable[str] = (),
    numbers: Collection[str] = (),
    reader: WholeRow | None = None,
) -> dict[str, Any]:
    """Field -> its type for a decoder, those of the text first. Raises: UserError where one is asked for twice."""
    names = [] if reader else [text_field] if isinstance(text_field, str) else text_field
    if twice := [name for name in names if names.count(name) > 1 or name in numbers]:
        raise UserError(f"text_field: {twice[0]} is asked for twice, or as a number too")
    kinds = ((names, Text), (numbers, Number), (absent, msgspec.UnsetType))
    types = {name: kind for some, kind in kinds for name in some}
    return {TURNS: reader} | types if reader else types


def _count(text_field: str | list[str], reader: WholeRow | None) -> int:
    """How many values of a row make its text."""
    return 1 if reader or isinstance(text_field, str) else len(text_field)


def _joined(values: Any, count: int) -> str:
    """The document of the first `count` values of a row."""
    parts = values if isinstance(values, tuple) else (values,)
    return document_text(parts[0] if count == 1 else parts[:count])
