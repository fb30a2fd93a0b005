"""Folding Ordering: several passes from low to high score, each over a thinned part of the data.

Folding Ordering of DELT (arXiv 2506.21545, section 3): with the rows sorted by score and L folds, fold l holds
sorted[l], sorted[l + L], sorted[l + 2 L], ...; the folds follow one another. Each fold is a curriculum of its
own, so that no range of scores is seen only once and forgotten.
"""

import numpy as np

from data_common.calls.config import Positive
from data_ordering.patterns import fold, ranked

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "paper",
}


def order(score: np.ndarray, *, folding_layer: Positive = 3, ascending: bool = True) -> np.ndarray:
    """The permutation sorted[0::L], sorted[1::L], ..., sorted[L-1::L]. score: (n,), raw values.

    Args:
        folding_layer: number of folds L; 1 is plain sorting
        ascending: each fold goes from low to high raw score, else from high to low
    """
    return fold(ranked(score, ascending), folding_layer)
