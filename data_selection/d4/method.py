"""D4: without near copies, and without the rows that are nearest to the centroids of their clusters.

Document De-Duplication and Diversification (Tirumala et al., arXiv 2308.12284): SemDeDup, then clusters of what is
left, of which the most prototypical rows are left out.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive, Seed
from data_common.vectors.clusters import cluster_count, kmeans, nearness
from data_selection.near_copies import without_near_copies
from data_selection.ranking import best, row_budget

ABOUT = {
    "family": "without near copies",
    "needs": "vectors of the rows, which it makes (TF-IDF, or a model); scikit-learn",
    "cost": "a vector of the row; its cosines to the rows of its cluster",
    "formula": "paper",
}


def select(
    embedding: np.ndarray,
    *,
    r: Annotated[float, Meta(ge=0, le=1)] | None = None,
    k: Annotated[int, Meta(ge=0)] | None = None,
    similarity: Annotated[float, Meta(ge=-1)] = 0.95,
    clusters: Positive | None = None,
    seed: Seed = 0,
) -> tuple[np.ndarray, dict[str, int]]:
    """Row numbers of floor(r n) or k rows, or of as many as SemDeDup leaves where those are fewer. embedding: (n, d).

    Of what it leaves, clustered once more, the rows with the smallest cosine to the centroid of their cluster stay;
    ties go to the earlier row.

    Args:
        r: share of the rows to keep (null = k decides)
        k: number of rows to keep (null = r decides)
        similarity: of SemDeDup: a row that is more similar to one that is kept is left out; 1 leaves out exact copies
            alone
        clusters: of k-means, both times; null = the square root of the rows
        seed: of k-means

    Raises: UserError unless exactly one of r and k is given, and for more clusters than rows that are left.
    """
    count = row_budget(len(embedding), r, k)
    rows, facts = without_near_copies(embedding, clusters, similarity, seed)
    vectors = embedding[rows]
    labels, centroids = kmeans(vectors, cluster_count(len(rows), clusters), seed)
    kept = rows[best(-nearness(vectors, labels, centroids), count)]
    return kept, facts | {"prototypical": len(rows) - len(kept)}
