"""Score first, diversity aware: the best rows, without those that are too similar to a better one.

The data selection of DEITA (Liu et al., arXiv 2312.15685), as in the authors' code: by similarity, not by distance.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from data_selection.near_copies import different
from data_selection.ranking import best, row_budget

ABOUT = {
    "family": "by one score, diverse",
    "needs": "a score; vectors of the rows, which it makes (TF-IDF, or a model)",
    "cost": "a vector of the row; its cosine to the rows that are kept",
    "formula": "paper",
}


def select(
    score: np.ndarray,
    embedding: np.ndarray,
    *,
    r: Annotated[float, Meta(ge=0, le=1)] | None = None,
    k: Annotated[int, Meta(ge=0)] | None = None,
    similarity: Annotated[float, Meta(ge=-1)] = 0.9,
) -> tuple[np.ndarray, dict[str, int]]:
    """Row numbers of floor(r n) or k rows, or of as many as are different enough. score: (n,), higher is better.

    From the best row on, a row is accepted unless its cosine to an accepted row is above `similarity`; ties go to the
    earlier row. embedding: (n, d), of length 1.

    Args:
        r: share of the rows to keep (null = k decides)
        k: number of rows to keep (null = r decides)
        similarity: a row that is more similar to a better one is left out; 1 leaves none out

    Raises: UserError unless exactly one of r and k is given.
    """
    count, order = row_budget(len(score), r, k), best(score, len(score))
    if similarity >= 1:  # rounding must not make a row too similar to its twin
        return order[:count], {"too_similar": 0}
    accepted, visited = different(embedding, order, count, similarity)
    return order[accepted], {"too_similar": visited - len(accepted)}
