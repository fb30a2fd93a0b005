"""Copies of rows: counts from a method, to the row numbers of OUT."""

from typing import Any

import numpy as np

from data_common.calls.config import Positive
from data_common.messages.errors import UserError


def repeated(copies: np.ndarray, *, max_repeats: Positive = 4) -> np.ndarray:
    """Row numbers: first every row with at least one copy, then those with two, and so on, each in input order.

    So two copies of a row are neighbours only where that row alone is repeated once more. copies: (n,) whole numbers.

    Args:
        max_repeats: most copies of a row; a method that asks for more is refused

    Raises: UserError where a row has more copies.
    """
    most = int(copies.max(initial=0))
    if most > max_repeats:
        count = int((copies > max_repeats).sum())
        raise UserError(
            f"{count:,} rows have more than max_repeats={max_repeats} copies: max_repeats={most} allows them"
        )
    return np.concatenate([np.flatnonzero(copies > one) for one in range(max(1, most))])


def checked_copies(copies: np.ndarray, n: int) -> np.ndarray:
    """`copies` as they are. Raises AssertionError unless they are a number of at least 0 for each row."""
    assert copies.shape == (n,) and copies.min(initial=0) >= 0, "the method gave no number of copies for each row"
    return copies


def copies_facts(copies: np.ndarray) -> dict[str, Any]:
    """What the manifest tells: rows with a copy at all, and how many rows have how many copies."""
    histogram = {str(number): int(rows) for number, rows in enumerate(np.bincount(copies)) if rows}
    return {"copies": {"rows": int((copies > 0).sum()), "histogram": histogram}}
