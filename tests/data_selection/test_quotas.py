"""Quotas against their definitions: by brute force, and by the level that water stands at."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_selection.quotas import proportional, water_filling

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@given(SIZES, st.integers(0, 50))
def test_proportional_shares_are_nearest_to_the_exact_ones(sizes, count):
    total = sum(sizes)
    shares = proportional(np.array(sizes), count, np.zeros(len(sizes)))
    if count >= total:
        assert shares.tolist() == sizes
        return
    exact = [count * size / total for size in sizes]
    off = sum((one - other) ** 2 for one, other in zip(shares, exact, strict=True))
    ways = itertools.product(*(range(size + 1) for size in sizes))
    best = min(
        sum((one - other) ** 2 for one, other in zip(way, exact, strict=True)) for way in ways if sum(way) == count
    )
    assert shares.sum() == count and (shares <= sizes).all() and abs(off - best) < 1e-9


def test_equal_remainders_are_rounded_up_by_preference():
    assert proportional(np.array([2, 2, 2, 2]), 3, np.array([0.0, 3.0, 1.0, 2.0])).tolist() == [0, 1, 1, 1]
    assert proportional(np.array([3, 3]), 3, np.array([1.0, 1.0])).tolist() == [2, 1]
    assert proportional(np.array([2**40, 2**40]), 2**40 + 1, np.array([0.0, 1.0])).tolist() == [2**39, 2**39 + 1]


@given(SIZES, st.integers(0, 50))
def test_water_fills_to_one_level(sizes, count):
    shares = water_filling(np.array(sizes), count)
    assert shares.sum() == min(count, sum(sizes)) and (shares <= sizes).all()
    ways = itertools.product(*(range(size + 1) for size in sizes))
    flattest = max(sorted(way) for way in ways if sum(way) == min(count, sum(sizes)))  # the poorest have most
    assert sorted(shares.tolist()) == flattest
