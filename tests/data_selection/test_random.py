"""Random selection against the law of simple random sampling."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chisquare

from data_common.messages.errors import UserError
from data_selection.random.method import select


def test_every_set_of_rows_is_as_likely_as_any_other():
    sets = {pair: 0 for pair in combinations(range(5), 2)}
    for seed in range(4000):
        sets[tuple(sorted(select(np.arange(5), k=2, seed=seed).tolist()))] += 1
    assert chisquare(list(sets.values())).pvalue > 1e-3


def test_a_smaller_share_is_part_of_a_larger_one():
    rows = np.arange(1000)
    small, large = (set(select(rows, r=r, seed=3).tolist()) for r in (0.1, 0.29))
    assert small < large and (len(small), len(large)) == (100, 290)


def test_the_luck_of_a_row_is_that_of_its_number():
    numbers = np.array([5, 9, 2, 7])
    kept = numbers[select(numbers, k=2, seed=1)]
    assert set(kept) == set(numbers[::-1][select(numbers[::-1], k=2, seed=1)])


def test_more_than_there_are():
    assert len(select(np.arange(3), k=9)) == 3 and len(select(np.arange(0), r=0.5)) == 0


@pytest.mark.parametrize("keys", [{}, {"r": 0.5, "k": 3}])
def test_exactly_one_size(keys):
    with pytest.raises(UserError, match="exactly one of r and k"):
        select(np.arange(3), **keys)
