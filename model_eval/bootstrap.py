"""The bootstrap over items: how far a sum over them would move, had other items been drawn.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: percentile intervals.
"""

import numpy as np

CONFIDENCE = 0.95


def resampled_sums(columns: np.ndarray, iterations: int, generator: np.random.Generator) -> np.ndarray:
    """Column sums over as many rows as there are, drawn with replacement. columns: (n, k) -> (iterations, k).

    All columns of a draw are of the same rows, so that what stands in one row stays paired.
    """
    n = len(columns)
    draws = (np.bincount(generator.integers(n, size=n), minlength=n) for _ in range(iterations))
    return np.array([counts @ columns for counts in draws]).reshape(iterations, columns.shape[1])


def interval(values: np.ndarray, confidence: float = CONFIDENCE) -> list[float]:
    """Lower and upper end of the middle share of the values. values: (iterations,)."""
    return [float(end) for end in np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])]
