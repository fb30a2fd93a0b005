"""S2L: equally many rows of each cluster of loss trajectories, which a small model shows over its training.

SmallToLarge (Yang et al., arXiv 2403.07384): rows whose losses go alike over the checkpoints have alike gradients.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive, Seed
from data_common.vectors.clusters import cluster_count, kmeans, rows_of_clusters
from data_selection.noise import uniform
from data_selection.quotas import water_filling
from data_selection.ranking import best, row_budget

ABOUT = {
    "family": "several scores",
    "needs": "the loss of each row at several checkpoints of a small model (perplexity); scikit-learn",
    "cost": "the distances of its losses to the centroids",
    "formula": "paper",
}


def select(
    scores: np.ndarray,
    group: np.ndarray,
    row_number: np.ndarray,
    *,
    r: Annotated[float, Meta(ge=0, le=1)] | None = None,
    k: Annotated[int, Meta(ge=0)] | None = None,
    clusters: Positive | None = None,
    seed: Seed = 0,
) -> tuple[np.ndarray, dict[str, int]]:
    """Row numbers of floor(r n) or k rows, all where there are fewer. scores: (n, checkpoints), the trajectories.

    Sources get shares that are as equal as their sizes allow, and within a source so do the clusters of k-means over
    the trajectories; which rows of a cluster is luck. group: (n,), the sources. row_number: (n,); the luck of a row
    depends on it and on the seed alone.

    Args:
        r: share of the rows to keep (null = k decides)
        k: number of rows to keep (null = r decides)
        clusters: of k-means, in each source that is not taken whole (100 in the paper); null = the square root of its
            rows
        seed: of k-means and of the draw

    Raises: UserError unless exactly one of r and k is given, and for more clusters than rows of such a source.
    """
    luck, picked, found = uniform(row_number, seed), [np.empty(0, np.int64)], 0
    sources = rows_of_clusters(group)
    for rows, share in zip(sources, _shares(sources, row_budget(len(scores), r, k)), strict=True):
        if share == len(rows):
            picked.append(rows)
            continue
        members = rows_of_clusters(kmeans(scores[rows], cluster_count(len(rows), clusters), seed)[0])
        found += len(members)
        for places, quota in zip(members, _shares(members, share), strict=True):
            some = rows[places]
            picked.append(some[best(luck[some], quota)])
    return np.concatenate(picked), {"sources": len(sources), "clusters": found}


def _shares(parts: list[np.ndarray], count: int) -> np.ndarray:
    return water_filling(np.array([len(rows) for rows in parts], np.int64), count)
