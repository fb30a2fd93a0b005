from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from data_ordering.like_batches.method import order


@given(st.integers(0, 80), st.integers(1, 90), st.integers(0, 5))
def test_batches_are_neighbours_and_aligned(n, size, seed):
    """Sorted by their lowest rank, the batches tile the ranks; all but the last of the file are full."""
    ranks = np.random.default_rng(n).permutation(n)
    ordered = ranks[order(ranks.astype(float), batch_size=size, seed=seed)]
    batches = [sorted(ordered[begin : begin + size].tolist()) for begin in range(0, n, size)]
    assert all(batch == list(range(batch[0], batch[0] + len(batch))) for batch in batches)
    assert sorted(rank for batch in batches for rank in batch) == list(range(n))


def test_every_order_of_the_batches_and_of_their_rows_is_equally_likely():
    orders, inside = Counter(), Counter()
    for seed in range(1200):
        ordered = order(np.arange(9.0), batch_size=3, seed=seed).reshape(3, 3)
        orders[tuple((ordered // 3)[:, 0].tolist())] += 1
        inside[tuple((ordered % 3)[1].tolist())] += 1
    for counts in (orders, inside):
        assert len(counts) == 6 and chisquare(list(counts.values())).pvalue > 1e-3


def test_the_short_batch_is_of_any_scores():
    """So that no end of the scores always comes last."""
    short = Counter(int(order(np.arange(11.0), batch_size=3, seed=seed)[9:].min()) for seed in range(800))
    assert sorted(short) == [0, 3, 6, 9] and chisquare(list(short.values())).pvalue > 1e-3


@pytest.mark.parametrize("size", [1, 4, 2**62])
def test_batches_of_one_row_or_of_all_are_a_shuffle(size):
    counts = Counter(tuple(order(np.arange(4.0), batch_size=size, seed=seed).tolist()) for seed in range(2400))
    assert len(counts) == 24 and chisquare(list(counts.values())).pvalue > 1e-3
