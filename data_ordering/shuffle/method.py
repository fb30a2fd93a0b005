"""Shuffle the rows: the conventional order, uniform over all permutations.

The conventional training order that DELT (arXiv 2506.21545, section 4) compares with; it needs no score.
"""

import numpy as np

from data_common.calls.config import Seed

ABOUT = {
    "family": "at random",
    "needs": "nothing",
    "cost": "copying the file",
    "formula": "own",
}


def order(n: int, *, seed: Seed = 0) -> np.ndarray:
    """A uniformly random permutation of n rows.

    Args:
        seed: of the random generator; the same seed gives the same order
    """
    return np.random.default_rng(seed).permutation(n)
