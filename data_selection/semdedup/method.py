"""SemDeDup: one row of each set of near copies, by the cosine of their vectors within clusters.

Semantic deduplication (Abbas et al., arXiv 2303.09540): k-means, then within each cluster
the rows far from its centroid first.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive, Seed
from data_selection.near_copies import without_near_copies

ABOUT = {
    "family": "without near copies",
    "needs": "vectors of the rows, which it makes (TF-IDF, or a model); scikit-learn",
    "cost": "a vector of the row; its cosines to the rows of its cluster",
    "formula": "paper",
}


def select(
    embedding: np.ndarray,
    *,
    similarity: Annotated[float, Meta(ge=-1)] = 0.95,
    clusters: Positive | None = None,
    seed: Seed = 0,
) -> tuple[np.ndarray, dict[str, int]]:
    """Row numbers without exact copies, nor rows of a cluster with a cosine above `similarity`. embedding: (n, d).

    Of near copies the row stays that is farthest from the centroid of its cluster; of exact copies the first.

    Args:
        similarity: 1 - epsilon of the paper: a row that is more similar to one that is kept is left out; 1 leaves out
            exact copies alone
        clusters: of k-means; rows of different clusters are not compared; null = the square root of the rows
        seed: of k-means

    Raises: UserError for more clusters than rows that differ.
    """
    return without_near_copies(embedding, clusters, similarity, seed)
