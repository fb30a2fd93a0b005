"""Pacing: c(t) against closed forms, the draw against a walk by definition, and keys under which rows would run out."""

import math
from collections import Counter
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import chisquare

from data_common.messages.errors import UserError
from data_ordering.pacing.method import available_share, order

PACES = ["linear", "root", "exponential", "step"]
CLOSED = {  # at start_share 0.2, paced_share 0.5 and t = 0, 0.125, 0.25, 0.49, 0.5, 0.8, 1
    "linear": [0.2, 0.4, 0.6, 0.984, 1, 1, 1],
    "root": [0.2, 0.6, 0.2 + 0.8 * math.sqrt(0.5), 0.2 + 0.8 * math.sqrt(0.98), 1, 1, 1],
    "exponential": [0.2, *(0.2 + 0.8 * (math.e**x - 1) / (math.e**10 - 1) for x in (2.5, 5, 9.8)), 1, 1, 1],
    "step": [0.2, 0.2, 0.2, 0.2, 1, 1, 1],
}


@pytest.mark.parametrize("pace", PACES)
def test_closed_forms(pace):
    t = np.array([0, 0.125, 0.25, 0.49, 0.5, 0.8, 1])
    np.testing.assert_allclose(available_share(t, pace, 0.2, 0.5), CLOSED[pace], rtol=1e-12)
    for start, paced in ((0.0, 1.0), (0.3, 0.1), (1.0, 1.0), (0.4, 0.0)):
        first, last = available_share(np.array([0.0, 1.0]), pace, start, paced)
        assert (first, last) == (start if paced else 1, 1)
        assert (np.diff(available_share(np.linspace(0, 1, 99), pace, start, paced)) >= 0).all()


KEYS = [
    ("linear", 0.1, 1.0),
    ("linear", 0.0, 0.25),
    ("root", 0.0, 1.0),
    ("root", 0.3, 0.7),
    ("exponential", 0.25, 0.25),
    ("exponential", 0.95, 1.0),
    ("step", 0.4, 0.4),
    ("step", 0.6, 0.35),
]


@pytest.mark.parametrize(("pace", "start", "paced"), KEYS)
@pytest.mark.parametrize("n", [1, 2, 10, 97, 100])
def test_no_row_comes_before_it_is_available(pace, start, paced, n):
    """Where c(t) n is a whole number up to the last digits, that number."""
    ranks = np.random.default_rng(n).permutation(n)
    latest = np.zeros(n, int)
    for seed in range(60):
        ordered = ranks[order(ranks.astype(float), pace=pace, start_share=start, paced_share=paced, seed=seed)]
        assert sorted(ordered) == list(range(n))
        latest = np.maximum(latest, ordered)
    share = available_share(np.arange(n) / n, pace, start, paced)
    available = [max(k + 1, math.ceil(round(n * c, 6))) for k, c in enumerate(share)]
    assert (latest < available).all()


def test_every_order_that_the_pace_allows_has_its_probability():
    """Six rows, linear from a third at once to all at half: 2, 4, 6, 6, ... rows are available (exact fractions)."""
    available = [math.ceil(6 * min(Fraction(1), Fraction(1, 3) + Fraction(2, 3) * Fraction(k, 3))) for k in range(6)]
    assert available == [2, 4, 5, 6, 6, 6]
    probability = {}
    for ordered in permutations(range(6)):
        if all(rank < available[k] for k, rank in enumerate(ordered)):
            probability[ordered] = math.prod(1 / (available[k] - k) for k in range(6))
    assert sum(probability.values()) == pytest.approx(1)
    score, keys = np.arange(6.0), {"start_share": 1 / 3, "paced_share": 0.5}
    counts = Counter(tuple(order(score, seed=seed, **keys).tolist()) for seed in range(6000))
    assert set(counts) == set(probability)
    expected = [6000 * probability[ordered] for ordered in probability]
    assert chisquare([counts[ordered] for ordered in probability], expected).pvalue > 1e-3


def test_its_ends_are_sorting_and_shuffling():
    score = np.random.default_rng(0).random(40)
    assert order(-score, ascending=False, seed=2).tolist() == order(score, seed=2).tolist()
    assert order(score, start_share=0).tolist() == np.argsort(score).tolist()
    shuffled = np.argsort(score)[np.random.default_rng(5).permutation(40)]
    for pace in PACES:
        assert order(score, pace=pace, paced_share=0, seed=5).tolist() == shuffled.tolist()
    counts = Counter(tuple(order(np.arange(3.0), start_share=1, seed=seed).tolist()) for seed in range(1200))
    assert len(counts) == 6 and chisquare(list(counts.values())).pvalue > 1e-3


def test_a_warm_up_leaves_the_rest_to_chance():
    """After the paced share the rows that are left are in random order: ranks and positions do not go together."""
    ordered = order(np.arange(20_000.0), start_share=0.1, paced_share=0.2)
    assert ordered[:200].max() < 2_900 and ordered[:4_000].mean() < 7_000
    assert abs(np.corrcoef(ordered[4_000:], np.arange(16_000))[0, 1]) < 4 / math.sqrt(16_000)


@pytest.mark.parametrize(
    ("keys", "least"),
    [
        ({"pace": "step"}, 1),
        ({"pace": "step", "start_share": 0.2, "paced_share": 0.3}, 0.3),
        ({"pace": "exponential"}, 0.901),  # 1 - 1 / g'(1), g'(1) = 10.0005
        ({"pace": "exponential", "start_share": 0.05, "paced_share": 0.25}, 0.137),
    ],
)
def test_a_pace_that_runs_out_of_rows_is_refused_with_the_cure(keys, least):
    with pytest.raises(UserError, match=f"pace={keys['pace']} runs out of rows: .* set start_share to") as refused:
        order(np.empty(0), **keys)
    told = float(str(refused.value).split("start_share to ")[1].split(" or more")[0])
    assert told == pytest.approx(least, abs=1e-9)
    with pytest.raises(UserError, match="runs out of rows"):
        order(np.empty(0), **keys | {"start_share": told - 0.002})
    assert len(order(np.arange(500.0), **keys | {"start_share": told})) == 500
    both = keys | {"paced_share": keys.get("start_share", 0.1)}
    assert len(order(np.arange(500.0), **both)) == 500
