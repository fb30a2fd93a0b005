"""In each cluster the best rows, each weighted by its distance to those that are chosen already.

The relational selection of Group-MATES (Yu et al., arXiv 2502.14709), by any score in the place of its predictor.
"""

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive, Seed
from data_common.messages.errors import UserError
from data_common.rows.statistics import ranks
from data_common.vectors.clusters import cluster_count, kmeans, rows_of_clusters
from data_common.vectors.nearest import unit
from data_selection.quotas import proportional
from data_selection.ranking import row_budget

ABOUT = {
    "family": "by one score, diverse",
    "needs": "a score; vectors of the rows, which it makes (TF-IDF, or a model); scikit-learn",
    "cost": "a vector of the row; its cosines to the chosen rows of its cluster",
    "formula": "exact",
}


def select(
    score: np.ndarray,
    embedding: np.ndarray,
    *,
    r: Annotated[float, Meta(ge=0, le=1)] | None = None,
    k: Annotated[int, Meta(ge=0)] | None = None,
    clusters: Positive | None = None,
    temperature: Annotated[float, Meta(gt=0)] = 1.0,
    normalize: Literal["rank", "none"] = "rank",
    seed: Seed = 0,
) -> tuple[np.ndarray, dict[str, int]]:
    """Row numbers of floor(r n) or k rows, all where there are fewer. score: (n,), higher is better.

    A cluster of m rows gives k m / n of them, by largest remainder: first its best row, then time and again the one of
    the largest score times the mean of 1 - cosine / temperature to the rows that it gave. Ties go to the earlier row.
    embedding: (n, d).

    Args:
        r: share of the rows to keep (null = k decides)
        k: number of rows to keep (null = r decides)
        clusters: of k-means; null = the square root of the rows
        temperature: tau: small, and rows that are like a chosen one count little or less than nothing
        normalize: rank = share of the rows that are worse; none = the score as it is, whose 0 must have a
            meaning, as of influence: rows below it are better when they are like those that are chosen
        seed: of k-means

    Raises: UserError unless exactly one of r and k is given, for more clusters than rows, and where no score is above
        0 with normalize=none.
    """
    count = row_budget(len(score), r, k)
    if normalize == "none" and len(score) and score.max() <= 0:
        raise UserError("no score is above 0, so that rows like each other would be chosen: normalize=rank")
    labels, _ = kmeans(embedding, cluster_count(len(score), clusters), seed)
    value = ranks(score) if normalize == "rank" else score
    members = rows_of_clusters(labels)
    sizes, tops = (np.array([of(some) for some in members]) for of in (len, lambda some: value[some].max()))
    quotas = proportional(sizes, count, tops)
    picked = [
        some[greedy(value[some], embedding[some], quota, temperature)]
        for some, quota in zip(members, quotas, strict=True)
    ]
    return np.concatenate([np.empty(0, np.int64), *picked]), {"clusters": len(members)}


def greedy(value: np.ndarray, vectors: np.ndarray, count: int, temperature: float) -> np.ndarray:
    """The first `count` <= n rows, in the order in which they are chosen. value: (n,); vectors: (n, d)."""
    vectors, weights = unit(vectors).astype(float), np.zeros(len(value))  # sums over the chosen rows
    chosen = np.empty(count, np.int64)
    worth = value.astype(float)
    for place in range(count):
        chosen[place] = np.argmax(worth)
        weights += 1 - vectors @ vectors[chosen[place]] / temperature
        worth = value * (weights / (place + 1))
        worth[chosen[: place + 1]] = -np.inf
    return chosen
