"""Clusters of vectors by k-means, the same on every machine: scikit-learn's, on one thread."""

import math
import warnings

import numpy as np

from data_common.messages.errors import UserError
from data_common.vectors.nearest import unit

ITERATIONS = 50
FITTED = 256  # vectors a cluster that centroids are fitted on, drawn evenly where there are more (as faiss does)
BLOCK = 2**16  # vectors that are assigned at a time
JUDGED = 2000  # vectors that the silhouette is computed from, drawn evenly where there are more


def cluster_count(n: int, clusters: int | None) -> int:
    """`clusters`, or the square root of n, rounded up, where it is None."""
    return math.isqrt(max(n - 1, 0)) + 1 if clusters is None else clusters


def kmeans(vectors: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """K-means of vectors, (n, width), by Euclidean distance -> (cluster of each, (n,) int64; centroids, (k, width)).

    Where fewer than k vectors differ, some clusters have no vector. Sources: Lloyd, https://doi.org/10.1109/TIT.1982.1056489;
    the start by k-means++. Raises: UserError for more clusters than vectors, unless there are none.
    """
    if not len(vectors):
        return np.empty(0, np.int64), np.empty((0, vectors.shape[1]))
    if k > len(vectors):
        raise UserError(f"{k} clusters of {len(vectors)} rows: there cannot be more clusters than rows")
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    scale = float(max(np.abs(vectors[at : at + BLOCK]).max() for at in range(0, len(vectors), BLOCK))) or 1.0
    model = KMeans(k, n_init=1, max_iter=ITERATIONS, random_state=np.random.RandomState(np.random.MT19937(seed)))
    labels = np.empty(len(vectors), np.int64)
    with threadpool_limits(1), warnings.catch_warnings():  # threads add up in any order: other centroids, other labels
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer vectors differ: methods tell the clusters found
        model.fit(_scaled(_drawn(vectors, FITTED * k, seed), scale))
        for at in range(0, len(vectors), BLOCK):
            labels[at : at + BLOCK] = model.predict(_scaled(vectors[at : at + BLOCK], scale))
    return labels, model.cluster_centers_ * scale


def rows_of_clusters(labels: np.ndarray) -> list[np.ndarray]:
    """The rows of each cluster that has any, in their order."""
    counts = np.bincount(labels)
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts[counts > 0])[:-1]) if len(labels) else []


def nearness(vectors: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The cosine of each vector to the centroid of its cluster, (n,) float32."""
    centres, found = unit(centroids), np.empty(len(vectors), np.float32)
    for at in range(0, len(vectors), BLOCK):
        part = slice(at, at + BLOCK)
        found[part] = np.einsum("ij,ij->i", unit(vectors[part]), centres[labels[part]])
    return found


def silhouette(vectors: np.ndarray, labels: np.ndarray, seed: int) -> float | None:
    """How much nearer vectors are to their own cluster than to the next, -1 to 1; None for one cluster, or n of them.

    The mean silhouette coefficient by Euclidean distance, of at most JUDGED vectors. Source: Rousseeuw,
    https://doi.org/10.1016/0377-0427(87)90125-7
    """
    from sklearn.metrics import silhouette_score

    sample, its = _drawn(vectors, JUDGED, seed), _drawn(labels, JUDGED, seed)
    if not 2 <= len(np.unique(its)) < len(its):
        return None
    return round(float(silhouette_score(np.asarray(sample, np.float32), its)), 4)


def _drawn(values: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most `most` of them, in their order."""
    if len(values) <= most:
        return values
    return values[np.sort(np.random.default_rng(seed).choice(len(values), most, replace=False))]


def _scaled(vectors: np.ndarray, scale: float) -> np.ndarray:
    """As floats of at least 32 bits, within -1 and 1: squares of large values would overflow."""
    return np.asarray(vectors, np.promote_types(vectors.dtype, np.float32)) / scale
