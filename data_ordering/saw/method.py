"""Saw: sorted by score, and zigzagged around the borders of sections.

SAW of Demystifying Data Organization (Dai et al., arXiv 2605.30334, ACL 2026): a curriculum that climbs, turns and goes
back to lower scores, by zigzag, in a window around each of the cuts between sections.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive
from data_ordering.patterns import arrange_around_splits, ranked, zigzag

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "paper",
}


def order(
    score: np.ndarray,
    *,
    num_sections: Positive = 3,
    folding_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.075,
    folding_layer: Positive = 2,
    ascending: bool = True,
) -> np.ndarray:
    """The sorted rows with the windows around round(n i / num_sections) zigzagged. score: (n,), raw values.

    Args:
        num_sections: number of sections; 1 is plain sorting
        folding_ratio: a window reaches this share of all rows to both sides of a cut; 0 is plain sorting
        folding_layer: number of passes in each window; 1 is plain sorting
        ascending: from low to high raw score, else from high to low
    """
    by_score = ranked(score, ascending)
    return arrange_around_splits(by_score, num_sections, folding_ratio, lambda window: zigzag(window, folding_layer))
