"""Rows that differ enough from each other, by the cosine of their vectors."""

import numpy as np
import xxhash

from data_common.vectors.clusters import cluster_count, kmeans, nearness
from data_common.vectors.nearest import unit

BLOCK = 256  # rows that are compared with the accepted ones in one matrix product


def different(embedding: np.ndarray, order: np.ndarray, count: int, similarity: float) -> tuple[np.ndarray, int]:
    """Places in `order` of the first `count` rows that differ from all accepted before them; how many were looked at.

    Rows are compared in float32, a block at a time with each block of accepted rows, and one after the other inside.
    """
    accepted: list[int] = []
    kept: list[np.ndarray] = []  # vectors of the accepted rows of each block
    for begin in range(0, len(order) if count else 0, BLOCK):
        vectors = unit(embedding[order[begin : begin + BLOCK]])
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


def without_near_copies(
    embedding: np.ndarray, clusters: int | None, similarity: float, seed: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Rows of which no two are equal, nor in one cluster of a cosine above `similarity`; what was left out.

    Of equal vectors the first row stays. Within a cluster the row that is farthest from its centroid, by cosine, comes
    first, and of rows that are too similar the one that comes first stays: SemDeDup (arXiv 2303.09540).
    embedding: (n, d). clusters: of k-means; None = the square root of n.
    Raises: UserError for more clusters than rows that differ.
    """
    rows = _distinct(embedding)
    vectors = embedding[rows]
    labels, centroids = kmeans(vectors, cluster_count(len(rows), clusters), seed)
    facts = {"clusters": len(np.unique(labels)), "exact_copies": len(embedding) - len(rows), "too_similar": 0}
    if similarity >= 1:  # rounding must not make rows equal
        return rows, facts
    order = np.argsort(nearness(vectors, labels, centroids), kind="stable")
    order = order[np.argsort(labels[order], kind="stable")]  # cluster by cluster, the farthest first
    kept = [np.empty(0, np.int64)]
    for some in np.split(order, np.cumsum(np.bincount(labels))[:-1]):
        kept.append(some[different(vectors, some, len(some), similarity)[0]])
    places = np.sort(np.concatenate(kept))
    return rows[places], facts | {"too_similar": len(rows) - len(places)}


def _distinct(embedding: np.ndarray) -> np.ndarray:
    """The first row of each vector, ascending; vectors are told apart by a hash of 128 bits."""
    hashes = np.array([xxhash.xxh3_128_digest(np.ascontiguousarray(row)) for row in embedding], "V16")
    return np.sort(np.unique(hashes, return_index=True)[1])
