"""Keep the best share r of the rows.

The selection of DELT (arXiv 2506.21545, section 3): the floor(r n) rows with the best scores.
"""

import math
from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.calls.decimals import as_written
from data_selection.ranking import best

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "paper",
}


def select(score: np.ndarray, *, r: Annotated[float, Meta(ge=0, le=1)] = 1.0) -> np.ndarray:
    """Row numbers of the floor(r n) best scores. score: (n,), higher is better.

    Args:
        r: share of the rows to keep; 1.0 keeps all
    """
    return best(score, math.floor(as_written(r) * len(score)))
