"""The shared maths of orderings against references that sort positions by a key or walk row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from data_ordering.patterns import arrange_around_splits, equal_parts, fold, ranked, shuffled_in_windows, zigzag

SIZES = st.integers(0, 60)
LAYERS = st.integers(1, 70)


def row_numbers(n):
    """n different row numbers that are not their own positions."""
    return np.random.default_rng(n).permutation(n) + 100


@given(st.lists(st.integers(0, 3)), st.booleans())
def test_ranked_is_a_stable_sort(score, ascending):
    expected = sorted(range(len(score)), key=lambda row: score[row] if ascending else -score[row])
    assert ranked(np.array(score, float), ascending).tolist() == expected


@given(SIZES, LAYERS)
def test_fold_sorts_by_layer_then_position(n, layers):
    order = row_numbers(n)
    assert fold(order, layers).tolist() == [order[i] for i in sorted(range(n), key=lambda i: (i % layers, i))]


@given(SIZES, LAYERS)
def test_zigzag_sorts_by_layer_then_position_up_and_down(n, layers):
    order = row_numbers(n)
    expected = sorted(range(n), key=lambda i: (i % layers, -i if i % layers % 2 else i))
    assert zigzag(order, layers).tolist() == [order[i] for i in expected]


@given(SIZES, LAYERS)
def test_zigzag_never_jumps(n, layers):
    assert (np.abs(np.diff(zigzag(np.arange(n), layers))) <= layers).all()


@given(SIZES, st.integers(1, 8), st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0]))
def test_windows_are_reversed_and_all_else_is_copied(n, sections, ratio):
    """The walk of the definition, row by row; reversing stands for any arrangement."""
    order = row_numbers(n).tolist()
    left, expected = list(order), []
    radius = round(n * ratio)
    for i in range(1, sections):
        split = round(n * i / sections)
        while left and len(expected) < split - radius:
            expected.append(left.pop(0))
        window = []
        while left and len(expected) + len(window) < split + radius:
            window.append(left.pop(0))
        expected += reversed(window)
    arranged = arrange_around_splits(np.array(order, int), sections, ratio, lambda window: window[::-1])
    assert arranged.tolist() == expected + left


def test_numbers_beyond_the_rows_change_nothing_and_cost_nothing():
    rows = np.arange(5)
    for ratio in (0.0, 0.2, 1.0):
        many = arrange_around_splits(rows, 1000, ratio, lambda window: window[::-1])
        assert (arrange_around_splits(rows, 2**62, ratio, lambda window: window[::-1]) == many).all()
    shuffled = [shuffled_in_windows(rows, size, np.random.default_rng(0)) for size in (6, 2**62)]
    assert (shuffled[0] == shuffled[1]).all()


def test_the_radius_is_that_of_the_ratio_as_written():
    # 0.35 of 90 rows is 31.5, which rounds to the even 32; 90 * 0.35 is 31.499... in binary
    arranged = arrange_around_splits(np.arange(90), 2, 0.35, lambda window: window[::-1])
    assert np.flatnonzero(arranged != np.arange(90))[[0, -1]].tolist() == [45 - 32, 45 + 32 - 1]


@given(SIZES, st.integers(0, 70), st.integers(0, 3))
def test_shuffling_stays_inside_the_windows(n, window_size, seed):
    order = row_numbers(n)
    shuffled = shuffled_in_windows(order, window_size, np.random.default_rng(seed))
    step = max(1, window_size)
    for begin in range(0, n, step):
        assert sorted(shuffled[begin : begin + step]) == sorted(order[begin : begin + step])
    assert shuffled.tolist() == shuffled_in_windows(order, window_size, np.random.default_rng(seed)).tolist()


@pytest.mark.parametrize("window", [0, 999, 1000])  # the first, the last full one, the shorter rest
def test_every_window_is_shuffled_uniformly(window):
    generator = np.random.default_rng(0)
    size = 2 if window == 1000 else 3
    seen = [
        tuple(shuffled_in_windows(np.arange(3002), 3, generator)[3 * window :][:size].tolist()) for _ in range(1200)
    ]
    counts = [seen.count(order) for order in set(seen)]
    assert len(counts) == (2 if window == 1000 else 6)
    assert chisquare(counts).pvalue > 1e-3


@given(SIZES, LAYERS)
def test_equal_parts_follow_each_other_and_the_larger_come_first(n, count):
    parts = equal_parts(row_numbers(n), count)
    assert np.concatenate(parts).tolist() == row_numbers(n).tolist()
    sizes = [len(part) for part in parts]
    assert len(parts) == max(1, min(count, n)) and sizes == sorted(sizes, reverse=True) and sizes[0] - sizes[-1] <= 1
