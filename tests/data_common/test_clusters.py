"""K-means on clusters that are known, and against Lloyd's step by hand; what cannot be clustered; the silhouette."""

import sys

import numpy as np
import pytest

from data_common.messages.commands import installing
from data_common.messages.errors import UserError
from data_common.vectors import clusters
from data_common.vectors.clusters import cluster_count, kmeans, nearness, rows_of_clusters, silhouette

RNG = np.random.default_rng(1)


def planted(n=60, k=3, width=5):
    labels = RNG.integers(k, size=n)
    return labels, np.eye(k, width)[labels] + 0.05 * RNG.normal(size=(n, width))


def test_planted_clusters_are_found():
    labels, vectors = planted()
    found, centroids = kmeans(vectors, 3, seed=0)
    assert len({(one, other) for one, other in zip(labels.tolist(), found.tolist(), strict=True)}) == 3
    for cluster in range(3):
        np.testing.assert_allclose(centroids[cluster], vectors[found == cluster].mean(0), atol=1e-5)


def test_each_vector_is_of_the_nearest_centroid_also_in_blocks_and_from_a_sample(monkeypatch):
    monkeypatch.setattr(clusters, "BLOCK", 7)
    monkeypatch.setattr(clusters, "FITTED", 5)
    vectors = RNG.normal(size=(90, 3)).astype(np.float16)
    labels, centroids = kmeans(vectors, 4, seed=3)
    distances = ((vectors[:, None].astype(float) - centroids[None]) ** 2).sum(2)
    np.testing.assert_allclose(distances[np.arange(90), labels], distances.min(1), rtol=1e-5)
    np.testing.assert_array_equal(labels, kmeans(vectors, 4, seed=3)[0])
    cosines = [
        float(x @ centroids[c] / np.linalg.norm(x) / np.linalg.norm(centroids[c]))
        for x, c in zip(vectors.astype(float), labels, strict=True)
    ]
    np.testing.assert_allclose(nearness(vectors, labels, centroids), cosines, atol=1e-6)


def test_the_scale_of_the_vectors_does_not_matter():
    _, vectors = planted()
    for scale in (1e300, 1e-300):
        labels, centroids = kmeans(vectors * scale, 3, seed=2)
        np.testing.assert_array_equal(labels, kmeans(vectors, 3, seed=2)[0])
        np.testing.assert_allclose(centroids / scale, kmeans(vectors, 3, seed=2)[1])


def test_fewer_rows_than_clusters_equal_rows_zeros_and_none(recwarn):
    with pytest.raises(UserError, match="61 clusters of 60 rows: there cannot be more clusters than rows"):
        kmeans(planted()[1], 61, seed=0)
    assert set(kmeans(np.ones((9, 3)), 4, seed=0)[0]) == {0}
    assert set(kmeans(np.zeros((9, 3)), 4, seed=0)[0]) == {0}
    assert kmeans(np.empty((0, 3)), 4, seed=0)[0].shape == (0,)
    assert not recwarn.list
    labels, _ = kmeans(np.arange(7.0)[:, None], 7, seed=2**40)
    assert sorted(labels) == list(range(7))


def test_the_rows_of_clusters_and_how_many_clusters():
    assert [some.tolist() for some in rows_of_clusters(np.array([4, 1, 4, 0]))] == [[3], [1], [0, 2]]
    assert rows_of_clusters(np.empty(0, np.int64)) == []
    assert [cluster_count(n, None) for n in (0, 1, 2, 9, 10)] == [1, 1, 2, 3, 4] and cluster_count(9, 7) == 7


def test_the_silhouette_is_its_definition():
    labels, vectors = planted(40)
    distance = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    values = []
    for row, own in enumerate(labels):
        others = [distance[row, labels == cluster] for cluster in range(3)]
        inside = others[own].sum() / (len(others[own]) - 1)
        outside = min(some.mean() for cluster, some in enumerate(others) if cluster != own)
        values.append((outside - inside) / max(inside, outside))
    assert silhouette(vectors, labels, seed=0) == pytest.approx(np.mean(values), abs=1e-4)
    assert silhouette(vectors, np.zeros(40, int), 0) is silhouette(vectors, np.arange(40), 0) is None


def test_without_scikit_learn_its_group_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ModuleNotFoundError) as missing:
        kmeans(np.ones((2, 2)), 1, seed=0)
    monkeypatch.setattr("data_common.messages.commands.IN_REPOSITORY", False)
    assert installing(missing.value.name) == '"delt[scikit-learn]"'
