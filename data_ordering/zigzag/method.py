"""Zigzag: passes over thinned data that go up and down in turn.

ZIG of Demystifying Data Organization (Dai et al., arXiv 2605.30334, ACL 2026): Folding Ordering with every second fold
reversed. Scores rise and fall without a jump, where folding falls from the highest score back to the lowest.
"""

import numpy as np

from data_common.calls.config import Positive
from data_ordering.patterns import ranked, zigzag

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "paper",
}


def order(score: np.ndarray, *, zigzag_layer: Positive = 5, ascending: bool = True) -> np.ndarray:
    """The permutation sorted[0::L], sorted[1::L] reversed, sorted[2::L], ... score: (n,), raw values.

    Args:
        zigzag_layer: number of passes L; 1 is plain sorting
        ascending: the first pass goes from low to high raw score, else from high to low
    """
    return zigzag(ranked(score, ascending), zigzag_layer)
