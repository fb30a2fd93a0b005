"""Segments: q equal parts from low to high score, each shuffled; for parts at both ends see `segment`.

A curriculum in stages ("baby steps" of Bengio et al., ICML 2009, https://doi.org/10.1145/1553374.1553380). Two segments
are the recipe "the better half last".
"""

import numpy as np

from data_common.calls.config import Positive, Seed
from data_ordering.patterns import each_shuffled, equal_parts, ranked

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "own",
}


def order(score: np.ndarray, *, segments: Positive = 2, ascending: bool = True, seed: Seed = 0) -> np.ndarray:
    """The permutation of the sorted rows in q consecutive segments, each shuffled. score: (n,), raw values.

    The sizes of the segments differ by at most one row, the larger ones come first. One segment is `shuffle`, as many
    as there are rows are `sorting`.

    Args:
        segments: number of segments q
        ascending: the first segment has the lowest raw scores, else the highest
        seed: of the random generator; the same seed gives the same order
    """
    return each_shuffled(equal_parts(ranked(score, ascending), segments), np.random.default_rng(seed))
