"""Statistics of a column of numbers."""

from typing import Literal

import numpy as np

Normalization = Literal["rank", "z-score"]
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Quantiles of a column, for summary and manifest; empty for no rows."""
    if not len(values):
        return {}
    place, ordered = np.multiply(QUANTILES, len(values) - 1), np.sort(values)  # np.quantile would import numpy.ma
    low, high = np.floor(place).astype(int), np.ceil(place).astype(int)
    found = ordered[low] + (place - low) * (ordered[high] - ordered[low])
    return {f"{q:g}": float(v) for q, v in zip(QUANTILES, found, strict=True)}


def z_scores(values: np.ndarray) -> np.ndarray:
    """Values with mean 0 and standard deviation 1; zeros where all are equal. (n,) -> (n,)."""
    if not len(values):
        return values
    scaled = values / (np.abs(values).max() or 1)  # squares of large values would overflow
    return (scaled - scaled.mean()) / (scaled.std() or 1)


def ranks(score: np.ndarray) -> np.ndarray:
    """Share of the rows that are worse, half of those that are equal counted, in (0, 1)."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    return ((np.cumsum(counts) - counts / 2) / max(len(score), 1))[place]


def normalised(score: np.ndarray, way: Normalization) -> np.ndarray:
    """`ranks` or `z_scores` of a score: several scores on one scale. (n,) -> (n,)."""
    return ranks(score) if way == "rank" else z_scores(score)


def spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    """Rank correlation of two columns, (n,), equal values having their mean rank; None where one column is constant."""
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])
