"""Sort the rows by score: the plain curriculum.

The sorting baseline of DELT (arXiv 2506.21545, section 3); ties keep the order of the input.
"""

import numpy as np

from data_ordering.patterns import ranked

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "paper",
}


def order(score: np.ndarray, *, ascending: bool = True) -> np.ndarray:
    """The permutation that sorts by raw score. score: (n,).

    Args:
        ascending: from low to high raw score, else from high to low
    """
    return ranked(score, ascending)
