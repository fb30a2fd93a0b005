from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from data_common.messages.errors import UserError
from data_ordering.segment.method import order

SCORE = np.array([4.0, 7, 1, 9, 0, 3, 8, 5, 2, 6])  # the scores are the ranks


def parts(front, back, **keys):
    """The scores of the three parts, each sorted."""
    ordered = SCORE[order(SCORE, **keys)]
    return [sorted(part) for part in np.split(ordered, [front, len(SCORE) - back])]


@pytest.mark.parametrize(
    ("front_is_high", "back_is_high", "expected"),
    [
        (False, True, [[0, 1, 2], [3, 4, 5, 6, 7], [8, 9]]),
        (True, False, [[7, 8, 9], [2, 3, 4, 5, 6], [0, 1]]),
    ],
)
def test_parts_from_both_ends(front_is_high, back_is_high, expected):
    keys = {"front_is_high": front_is_high, "back_is_high": back_is_high}
    assert parts(3, 2, x_pct=39.9, y_pct=20, **keys) == expected


@pytest.mark.parametrize(("high", "middle"), [(False, [5, 6, 7, 8, 9]), (True, [0, 1, 2, 3, 4])])
def test_parts_from_one_end(high, middle):
    keys = {"x_pct": 30, "y_pct": 20, "front_is_high": high, "back_is_high": high}
    fronts = Counter()
    for seed in range(400):
        front, between, _ = parts(3, 2, seed=seed, **keys)
        assert between == middle
        fronts[tuple(front)] += 1
    assert len(fronts) == 10  # each choice of 3 of the 5 rows, equally often
    assert chisquare(list(fronts.values())).pvalue > 1e-3


def test_defaults_are_the_lowest_tenth_first_and_the_highest_last():
    ordered = SCORE[order(SCORE)]
    assert (ordered[0], ordered[-1]) == (0, 9)


def test_each_part_is_shuffled():
    places = [order(np.arange(9.0), x_pct=34, y_pct=34, seed=seed).reshape(3, 3) for seed in range(600)]
    for part in range(3):
        counts = Counter(tuple(place[part].tolist()) for place in places)
        assert len(counts) == 6
        assert chisquare(list(counts.values())).pvalue > 1e-3


def test_counts_are_rounded_down_from_the_percentage_as_it_is_written():
    score = np.arange(1000.0)  # 1.1 % are 11 rows; 1000 * 0.011 is 10.999...
    assert sorted(order(score, x_pct=1.1, y_pct=0)[:11]) == list(range(11))


def test_all_rows_may_be_in_the_parts_but_no_more():
    assert len(order(SCORE, x_pct=29.9, y_pct=70.1)) == 10
    with pytest.raises(UserError, match="x_pct=60 and y_pct=41 are more than 100 per cent"):
        order(SCORE, x_pct=60, y_pct=41)
