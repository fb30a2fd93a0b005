"""Score first, diversity aware: the best rows, without those that are too similar to a better one.

The data selection of DEITA (Liu et al., arXiv 2312.15685), as in the authors' code: by similarity, not by distance.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from data_selection.ranking import best, row_budget

ABOUT = {
    "family": "by one score, diverse",
    "needs": "a score; vectors of the rows, which it makes (TF-IDF, or a model)",
    "cost": "a vector of the row; its cosine to the rows that are kept",
    "formula": "paper",
}
BLOCK = 256  # rows that are compared with the accepted ones in one matrix product


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


def different(embedding: np.ndarray, order: np.ndarray, count: int, similarity: float) -> tuple[np.ndarray, int]:
    """Places in `order` of the first `count` rows that differ from all accepted before them; how many were looked at.

    Rows are compared in float32, a block at a time with each block of accepted rows, and one after the other inside.
    """
    accepted: list[int] = []
    kept: list[np.ndarray] = []  # vectors of the accepted rows of each block
    for begin in range(0, len(order) if count else 0, BLOCK):
        vectors = _of_length_one(embedding[order[begin : begin + BLOCK]])
        near = np.zeros(len(vectors), bool)
        for earlier in kept:
            open_rows = np.flatnonzero(~near)
            near[open_rows] = (vectors[open_rows] @ earlier.T > similarity).any(axis=1)
        among, new = vectors @ vectors.T > similarity, []
        for place in range(len(vectors)):
            if near[place]:
                continue
            new.append(place)
            if len(accepted) + len(new) == count:
                return np.array([*accepted, *(begin + one for one in new)]), begin + place + 1
            near |= among[place]
        accepted += [begin + one for one in new]
        kept.append(vectors[new])
    return np.array(accepted, np.int64), len(order) if count else 0


def _of_length_one(vectors: np.ndarray) -> np.ndarray:
    """As float32; float16 has rounded their lengths."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
