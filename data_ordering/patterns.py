"""Maths that orderings share."""

import numpy as np


def ranked(score: np.ndarray, ascending: bool) -> np.ndarray:
    """Row numbers from low to high score (or high to low); equal scores keep the order of the input. (n,) -> (n,)."""
    return np.argsort(score if ascending else -score, kind="stable")
