"""Copies of deduplicated rows: the fewer rows of a duplicate count fail the filter, the more copies.

The rehydration of FineWeb2 (Penedo et al., arXiv 2506.20920): how often a page was found says how
good it is: those found very often are bad.
"""

import math
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive
from data_common.calls.decimals import as_written

ABOUT = {
    "family": "by one score, with copies",
    "needs": "a score; how often each row was there before deduplication",
    "cost": "copying the file",
    "formula": "exact",
}
WINDOW = 5  # bins of the moving average


def copies(
    score: np.ndarray,
    higher_is_better: bool,
    duplicate_count: np.ndarray,
    *,
    threshold: float,
    max_copies: Positive = 10,
    tail: Annotated[float, Meta(ge=0, le=1)] = 0.001,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Copies of each row, (n,): none of one that fails the filter, 1 to max_copies of one that passes.

    The rows of a duplicate count are a bin. With the share r of its rows that fail, r_all of all rows, and r_low of the
    best bin, its rows have 1 + (max_copies - 1) (r - r_all) / (r_low - r_all) copies, at least 1; a moving average over
    five bins, rounded half to even. score: (n,), raw values. duplicate_count: (n,), from 1 on.

    Args:
        threshold: the bound that a score must reach; what does not fails the filter
        max_copies: of a row in the bin whose rows fail least
        tail: share of the rows, those of the largest duplicate counts, that is one bin
    """
    passes = score >= threshold if higher_is_better else score <= threshold
    starts = bins(duplicate_count, tail)
    place = np.searchsorted(starts, duplicate_count, side="right") - 1
    sizes = np.bincount(place, minlength=len(starts))
    rates = 1 - np.bincount(place, passes, len(starts)) / sizes
    weights = weights_of(rates, 1 - passes.mean() if len(passes) else 0.0, max_copies)
    changes = np.flatnonzero(np.diff(weights, prepend=0))
    told = {str(int(starts[one])): int(weights[one]) for one in changes}
    facts = {"rows_that_fail": int((~passes).sum()), "copies_from_duplicate_count_on": told}
    return np.where(passes, weights[place], 0), facts


def bins(duplicate_count: np.ndarray, tail: float) -> np.ndarray:
    """The smallest duplicate count of each bin, ascending; a last one of several has at most `tail` of the rows."""
    values, rows = np.unique(duplicate_count, return_counts=True)
    pooled = rows[::-1].cumsum()[::-1] <= math.floor(as_written(tail) * len(duplicate_count))
    return values[: len(values) - max(int(pooled.sum()) - 1, 0)]


def weights_of(rates: np.ndarray, rate: float, max_copies: int) -> np.ndarray:
    """Copies of a passing row of each bin, (bins,) whole numbers.

    rates: (bins,), the share of its rows that fail; rate: of all rows. The first and the last two bins are not
    smoothed, and no bin where there are fewer than the window.
    """
    weights = np.ones(len(rates))
    if len(rates) and rates.min() < rate:
        weights = np.maximum(1, 1 + (max_copies - 1) * (rates - rate) / (rates.min() - rate))
    if len(weights) >= WINDOW:
        edge = WINDOW // 2
        weights[edge:-edge] = np.convolve(weights, np.ones(WINDOW) / WINDOW, "valid")
    return np.round(weights).astype(np.int64)
