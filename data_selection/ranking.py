"""Maths that ranking selections share."""

import numpy as np


def best(score: np.ndarray, k: int) -> np.ndarray:
    """Row numbers of the `k` highest scores; ties at the cut go to the earlier row. score: (n,) -> (min(k, n),)."""
    return np.argsort(-score, kind="stable")[:k]
