"""From each cluster of the vectors a share of the rows by its size, drawn by quality: k-means-quality, kMQ.

Diversify and Conquer (Yu et al., arXiv 2409.11378), the sampling in one round.
"""

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive, Seed
from data_common.rows.statistics import z_scores
from data_common.vectors.clusters import cluster_count, kmeans, rows_of_clusters, silhouette
from data_selection.noise import noisy
from data_selection.quotas import proportional
from data_selection.ranking import best, row_budget

ABOUT = {
    "family": "by one score, diverse",
    "needs": "a score; vectors of the rows, which it makes (TF-IDF, or a model); scikit-learn",
    "cost": "a vector of the row; its distances to the centroids",
    "formula": "paper",
}


def select(
    score: np.ndarray,
    embedding: np.ndarray,
    row_number: np.ndarray,
    *,
    r: Annotated[float, Meta(ge=0, le=1)] | None = None,
    k: Annotated[int, Meta(ge=0)] | None = None,
    clusters: Positive | None = None,
    temperature: Annotated[float, Meta(gt=0)] = 1.0,
    normalize: bool = False,
    seed: Seed = 0,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Row numbers of floor(r n) or k rows, all where there are fewer. score: (n,), higher is better.

    A cluster of m rows gives k m / n of them, by largest remainder; they are drawn without replacement with a
    probability proportional to exp(score / temperature). embedding: (n, d). row_number: (n,); the luck of a row depends
    on it and on the seed alone. The silhouette tells how well the number of clusters fits the vectors.

    Args:
        r: share of the rows to keep (null = k decides)
        k: number of rows to keep (null = r decides)
        clusters: of k-means; null = the square root of the rows
        temperature: near 0 keeps the best rows of each cluster, a large one draws uniformly
        normalize: turn the scores into z-scores first, so that temperature is in standard deviations
        seed: of k-means and of the draw

    Raises: UserError unless exactly one of r and k is given, and for more clusters than rows.
    """
    count = row_budget(len(score), r, k)
    labels, _ = kmeans(embedding, cluster_count(len(score), clusters), seed)
    drawn = noisy(z_scores(score) if normalize else score, row_number, temperature, seed)
    members = rows_of_clusters(labels)
    sizes, tops = (np.array([of(some) for some in members]) for of in (len, lambda some: drawn[some].max()))
    quotas = proportional(sizes, count, tops)
    picked = [some[best(drawn[some], quota)] for some, quota in zip(members, quotas, strict=True)]
    facts = {"clusters": len(members), "silhouette": silhouette(embedding, labels, seed) if members else None}
    return np.concatenate([np.empty(0, np.int64), *picked]), facts
