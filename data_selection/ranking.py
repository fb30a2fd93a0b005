"""Maths that ranking selections share."""

import math

import numpy as np

from data_common.calls.decimals import as_written
from data_common.messages.errors import UserError


def best(score: np.ndarray, k: int) -> np.ndarray:
    """Row numbers of the `k` highest scores; ties at the cut go to the earlier row. score: (n,) -> (min(k, n),)."""
    return np.argsort(-score, kind="stable")[:k]


def row_budget(n: int, r: float | None, k: int | None) -> int:
    """How many of n rows to keep: floor(r n), or k. Raises: UserError unless exactly one of r and k is given."""
    if (r is None) == (k is None):
        raise UserError("give exactly one of r and k: r=null k=NUMBER, or r=SHARE k=null")
    return math.floor(as_written(r) * n) if k is None else k
