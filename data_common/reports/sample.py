"""Some rows of a corpus for people to look at: spread evenly over an order of the rows, the same ones in every run."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from data_common.messages.visible import cut
from data_common.rows.json_line import BadRow, Decoder, Scalar, Text, document_text, long_integer
from data_common.rows.jsonl import Rows, Source, raw_lines

PICTURED = 2_000  # rows whose lengths, groups and numbers are drawn
LISTED = 300  # of them those whose text is shown
KEPT = 2_000  # characters of a text
KEPT_VALUE = 80  # of another field
FIELDS = 40  # of a row
GROUPS = (2, 40)  # different values of a field that tells groups apart
MOST_SHARE = 1 / 3  # of the rows: where more values are different, they are no groups


@dataclass(frozen=True)
class Row:
    """A row as it is shown. text: its beginning. fields: the others, those of objects in it as `object.field`."""

    text: str
    characters: int  # of the whole text
    start: int  # where its line begins in the source
    fields: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """Some rows, (m,), and their numbers among all rows."""

    index: np.ndarray
    rows: Sequence[Row]

    def lengths(self) -> np.ndarray:
        """Characters of each text, (m,)."""
        return np.array([row.characters for row in self.rows])

    def numbers(self) -> dict[str, np.ndarray]:
        """Each field of numbers as (m,) floats, NaN where a row has none, the other fields left out."""
        found = {}
        for name in self._names():
            values = [row.fields.get(name) for row in self.rows]
            if all(value is None or _is_number(value) for value in values):
                found[name] = np.array([_finite(value) for value in values])
        return {name: values for name, values in found.items() if not np.isnan(values).all()}

    def groups(self) -> dict[str, np.ndarray]:
        """Each field that tells groups of rows apart, as (m,) texts: strings or booleans, each of several rows."""
        found = {}
        for name in self._names():
            values = [row.fields.get(name) for row in self.rows]
            if all(value is None or isinstance(value, str | bool) for value in values):
                texts = np.array([value if isinstance(value, str) else json.dumps(value) for value in values], object)
                if GROUPS[0] <= len(set(texts)) <= min(GROUPS[1], MOST_SHARE * len(texts)):
                    found[name] = texts
        return found

    def take(self, chosen: np.ndarray) -> "Sample":
        """Only these of its rows."""
        return Sample(self.index[chosen], [self.rows[number] for number in chosen])

    def with_fields(self, columns: Mapping[str, np.ndarray]) -> "Sample":
        """The same with more fields, or other values of them. columns: name -> the values of all rows of the corpus."""
        more = [{name: values[row : row + 1].tolist()[0] for name, values in columns.items()} for row in self.index]
        rows = [replace(row, fields={**row.fields, **new}) for row, new in zip(self.rows, more, strict=True)]
        return Sample(self.index, rows)

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row.fields))


def spread(n: int, most: int) -> np.ndarray:
    """At most `most` of the numbers 0..n-1, ascending: one at a random place of each of as many equal stretches."""
    if n <= most:
        return np.arange(n)
    edges = np.linspace(0, n, most + 1).astype(np.int64)
    return np.random.default_rng(0).integers(edges[:-1], edges[1:])


def read_sample(source: Source, rows: Rows, index: np.ndarray, text_fields: Sequence[str]) -> Sample:
    """The rows with these numbers, in this order. A row without all of the text fields is shown as its line of JSON."""
    decode = Decoder(dict.fromkeys(text_fields, Text))
    taken = rows.take(index)
    lines = zip(raw_lines(source, taken), taken.start.tolist(), strict=True)
    return Sample(index, [_row(line, start, decode, text_fields) for line, start in lines])


def _row(line: bytes, start: int, decode: Decoder, text_fields: Sequence[str]) -> Row:
    try:
        text = document_text(decode(line, True))
    except BadRow:
        text, text_fields = line.decode(), ()
    try:
        content = json.loads(line, parse_int=long_integer) if text_fields else {}
    except RecursionError:
        content = {}
    fields = {}
    for name, value in content.items():
        if name in text_fields:
            continue
        inner = {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
        fields |= {key: _brief(one) for key, one in inner.items() if isinstance(one, str | bool | int | float)}
    return Row(text[:KEPT], len(text), start, dict(list(fields.items())[:FIELDS]))


def _brief(value: str | bool | float) -> str | bool | float:
    """The value itself, or the beginning of one that takes much space."""
    spelled = str(value)
    return value if len(spelled) <= KEPT_VALUE else cut(spelled, KEPT_VALUE)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: float | None) -> float:
    """NaN for what is no number that can be drawn; numbers of so many digits that they overflow are texts here."""
    return float(value) if value is not None and math.isfinite(value) else math.nan
