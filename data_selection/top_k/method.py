"""Keep the k best rows.

The selection of DELT (arXiv 2506.21545, section 3) with an absolute number of rows.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from data_selection.ranking import best

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "paper",
}


def select(score: np.ndarray, *, k: Annotated[int, Meta(ge=0)]) -> np.ndarray:
    """Row numbers of the k best scores, all where there are fewer. score: (n,), higher is better.

    Args:
        k: number of rows to keep; 0 keeps none
    """
    return best(score, k)
