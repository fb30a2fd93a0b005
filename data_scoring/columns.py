"""What a scorer writes of every row: the score, its further fields of whatever type, and what rows too short get."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from data_common.messages.errors import UserError
from data_common.rows.statistics import quantiles
from data_common.rows.texts import Texts
from data_scoring.scorer import BaseScorer, Better

RECORDED_VALUES = 100  # of a field of strings, the most frequent ones: in the manifest
SHOWN_VALUES = 8  # in the summary
KINDS = {"f": "number", "i": "number", "u": "number", "b": "boolean", int: "number", bool: "boolean", str: "string"}
BLOCK = 4096  # rows whose values are Python objects at a time


def written_fields(scorer: BaseScorer, score_field: str, text_field: str | list[str]) -> dict[str, Better]:
    """Each field that the scorer fills, the score first -> "higher" or "lower", which is better; None = neither.

    Raises: UserError where the score and a further field, or a text that is read, have one name.
    """
    texts = [text_field] if isinstance(text_field, str) else text_field
    if score_field in texts:
        raise UserError(f"score_field={score_field} is the text that is scored: choose another name")
    if score_field in scorer.extra_directions:
        raise UserError(f"score_field={score_field}: the method writes another field of that name")
    if taken := [field for field in scorer.extra_directions if field in texts]:
        raise UserError(f"text_field={taken[0]}: the method writes a field of that name")
    return {score_field: better_of(scorer.higher_is_better)} | scorer.extra_directions


def better_of(higher_is_better: bool | None) -> Better:
    """What a scorer says of its score, as it is declared of a field."""
    return None if higher_is_better is None else "higher" if higher_is_better else "lower"


def as_columns(
    scorer: BaseScorer, found: np.ndarray, texts: Texts, directions: Mapping[str, Better]
) -> dict[str, np.ndarray]:
    """The score, (texts,), and the scorer's further fields as columns: field -> (rows,), as `of_all_rows`."""
    assert np.shape(found) == (len(texts),), f"the scorer gave no score for each of {len(texts)} texts"
    assert scorer.extra.keys() == scorer.extra_directions.keys(), "extra and extra_directions name other fields"
    score_field, *further = directions
    values = {score_field: found} | {field: scorer.extra[field] for field in further}
    return {field: of_all_rows(one, texts.blank, directions[field]) for field, one in values.items()}


def of_all_rows(values: np.ndarray, blank: np.ndarray, better: Better) -> np.ndarray:
    """The values of the rows with text, (texts,), as those of all rows, (rows,).

    A row without text gets NaN in a column of floating point, in another one what does not count. better: which
    values are; a column that has such is one of numbers.
    """
    values = np.asarray(values)
    values = values.astype(object) if values.dtype.kind in "UT" else values
    kind = kind_of(values)
    assert kind == "number" or (kind and better is None), f"numbers are expected, not {kind or values.dtype}"
    assert values.dtype.kind != "f" or not np.isinf(values).any(), "the scorer gave an infinite value"
    empty, dtype = (np.nan, float) if values.dtype.kind == "f" else (0, values.dtype)
    column = np.full(len(blank), empty, dtype)
    column[~blank] = values
    return column


def kind_of(values: np.ndarray) -> str:
    """The one kind ("number", "boolean" or "string") of all values, (n,), that are not None; else an empty string."""
    if values.dtype.kind != "O":
        return KINDS.get(values.dtype.kind, "")
    kinds = {KINDS.get(type(value), "") for value in values if value is not None}
    return kinds.pop() if len(kinds) == 1 else ""


def missing(values: np.ndarray) -> np.ndarray:
    """Which values are NaN, (n,) -> (n,); of whole numbers none is."""
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)


def check_missing(columns: Mapping[str, np.ndarray], short: np.ndarray) -> None:
    """Raises UserError where every row is too short, AssertionError where a value is missing in other rows."""
    if short.all():
        raise UserError("no row has a text that can be scored")
    for field, values in columns.items():
        agrees = values.dtype.kind != "f" or np.array_equal(np.isnan(values), short)
        assert agrees, f"{field} is missing in other rows than the score"


def fill_short(
    columns: Mapping[str, np.ndarray], short: np.ndarray, better: Mapping[str, Better], known: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The columns, (rows,), with what rows get that are too short: the known value, else the worst one, else null.

    better: which values are; of a field where none is, none is the worst. known: field -> value; "score" is the first.
    """
    score_field = next(iter(columns))
    known = {score_field if name == "score" else name: value for name, value in known.items()}
    return {
        field: _filled(values, short, known[field] if field in known else _worst(values[~short], better[field]))
        for field, values in columns.items()
    }


def _worst(values: np.ndarray, better: Better) -> Any:
    return None if better is None else values.min() if better == "higher" else values.max()


def _filled(values: np.ndarray, short: np.ndarray, value: Any) -> np.ndarray:
    """A column with `value` where `short`. None: null; of floats, which have NaN there, it is written for NaN."""
    if not short.any() or (value is None and values.dtype.kind == "f"):
        return values
    values = values.astype(object if value is None else values.dtype)
    values[short] = value
    return values


def statistics(values: np.ndarray) -> dict[str, Any]:
    """Quantiles of a column of numbers; of strings or booleans in how many rows each is, the most frequent first."""
    kind = kind_of(values)
    if kind == "number":
        numbers = values[values != None].astype(float)  # noqa: E711 - elementwise
        return quantiles(numbers[~np.isnan(numbers)])
    counts = Counter(value for value in values.tolist() if value is not None).most_common()
    spelled = {value if kind == "string" else str(value).lower(): count for value, count in counts[:RECORDED_VALUES]}
    return {"distinct": len(counts), "rows": spelled}


def in_words(found: Mapping[str, Any]) -> str:
    """The statistics of a column on one line."""
    if "rows" in found:
        listed = [f"{value or 'empty'} {count:,}" for value, count in list(found["rows"].items())[:SHOWN_VALUES]]
        more = found["distinct"] - len(listed)
        return ", ".join([*listed, *([f"{more:,} more values"] if more else [])])
    return f"min {found['0']:.4g}, median {found['0.5']:.4g}, max {found['1']:.4g}"


def rows_of(columns: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """The columns, (rows,) each, row by row, as what Python and JSON have: whole numbers, floats, strings, booleans."""
    count = len(next(iter(columns.values())))
    for first in range(0, count, BLOCK):
        block = [values[first : first + BLOCK].tolist() for values in columns.values()]
        for row in zip(*block, strict=True):
            yield dict(zip(columns, row, strict=True))
