from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from data_ordering.segment.method import order as segment
from data_ordering.segments.method import order
from data_ordering.shuffle.method import order as shuffle

SCORE = np.random.default_rng(0).permutation(11).astype(float)  # the scores are the ranks


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        (1, [list(range(11))]),
        (2, [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]),
        (3, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]),
        (4, [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]]),
    ],
)
def test_the_ranks_of_each_segment(segments, expected):
    borders = np.cumsum([len(part) for part in expected])[:-1]
    for seed in range(20):
        ordered = SCORE[order(SCORE, segments=segments, seed=seed)]
        assert [sorted(part) for part in np.split(ordered, borders)] == expected
        turned = SCORE[order(-SCORE, segments=segments, seed=seed, ascending=False)]
        assert turned.tolist() == ordered.tolist()


def test_each_segment_is_shuffled():
    places = [order(np.arange(9.0), segments=3, seed=seed).reshape(3, 3) for seed in range(600)]
    for part in range(3):
        counts = Counter(tuple(place[part].tolist()) for place in places)
        assert len(counts) == 6 and chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.parametrize("n", [0, 1, 2, 3, 50, 51])
def test_its_ends_are_shuffling_and_sorting(n):
    score = np.random.default_rng(n).random(n)
    for many in (max(n, 1), 2**62):
        assert order(score, segments=many).tolist() == np.argsort(score).tolist()
    assert score[order(score, segments=1, seed=7)].tolist() == np.sort(score)[shuffle(n, seed=7)].tolist()


@pytest.mark.parametrize("n", [50, 51])
def test_two_segments_are_the_better_half_last(n):
    score = np.random.default_rng(n).random(n)
    recipe = segment(score, x_pct=0, y_pct=50, back_is_high=True, seed=3)
    assert order(score, segments=2, seed=3).tolist() == recipe.tolist()
