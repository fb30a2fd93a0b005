"""The nearest vectors against brute force, whatever the blocks."""

import numpy as np
import pytest

from data_common.messages.errors import UserError
from data_common.vectors import nearest


def brute_force(a, b, k):
    """Cosines one by one in float64, sorted by (cosine, number)."""
    cosines = [[float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) for y in b] for x in a.astype(np.float64)]
    numbers = [sorted(range(len(b)), key=lambda j, row=row: (-round(row[j], 6), j))[:k] for row in cosines]
    return np.array(numbers), np.array([[row[j] for j in some] for row, some in zip(cosines, numbers, strict=True)])


@pytest.mark.parametrize("memory", [1, 10_000, 2**28], ids=["blocks of one", "some blocks", "one block"])
@pytest.mark.parametrize("k", [1, 3, 40])
def test_top_k_is_brute_force(k, memory):
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=(n, 8)).astype(np.float16) for n in (23, 37))
    b[5] = b[30] = a[0]  # equal ones
    b[7] = 2 * b[8]
    numbers, cosines = nearest.top_k(a, b, k, memory)
    expected = brute_force(a, b.astype(np.float64), k)[1]
    order, cosine_of = brute_force(a, b.astype(np.float64), len(b))
    own = np.take_along_axis(cosine_of, np.take_along_axis(np.argsort(order, axis=1), numbers, 1), 1)
    # by their cosines, as those of parallel vectors (7 and 8) differ in the last bit with some kernels of BLAS
    np.testing.assert_allclose(own, expected, atol=1e-6)
    np.testing.assert_allclose(cosines, expected, atol=1e-6)
    assert all(len(set(row)) == min(k, len(b)) for row in numbers.tolist())
    assert numbers[0, 0] == 5 and cosines[0, 0] == pytest.approx(1, abs=1e-6)


def test_ties_at_the_cut_go_to_the_earlier_rows():
    b = np.tile([[1.0, 0.0]], (9, 1))
    for memory in (1, 2**20):
        assert nearest.top_k(b[:1], b, 4, memory)[0].tolist() == [[0, 1, 2, 3]]


def test_memory_bounds_the_blocks(monkeypatch):
    sizes = []
    largest = nearest._largest
    monkeypatch.setattr(nearest, "_largest", lambda values, k: sizes.append(values.nbytes) or largest(values, k))
    nearest.top_k(np.ones((1000, 4)), np.ones((1000, 4)), 2, memory=2**18)
    assert 2**14 < max(sizes) < 2**18


def test_nothing_is_near_nothing():
    empty = np.empty((0, 3), np.float16)
    assert nearest.top_k(empty, np.ones((2, 3)), 1)[0].shape == (0, 1)
    assert nearest.top_k(np.ones((2, 3)), empty, 4)[0].shape == (2, 0)
    assert nearest.top_k(np.ones((2, 3)), np.ones((2, 3)), 0)[0].shape == (2, 0)


def test_similarities_are_cosines_and_lengths_do_not_matter():
    found = nearest.similarities(np.array([[3.0, 4.0]]), np.array([[30.0, 40.0], [4.0, -3.0], [0.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[1, 0, 0.8, 0]], atol=1e-6)


def test_vectors_of_another_embedder_and_nan_are_refused():
    with pytest.raises(UserError, match="vectors of 3 and of 4 numbers: they are of different embedders"):
        nearest.top_k(np.ones((2, 3)), np.ones((2, 4)), 1)
    with pytest.raises(UserError, match="no numbers"):
        nearest.similarities(np.ones((2, 3)), np.array([[1, np.nan, 0]]))
