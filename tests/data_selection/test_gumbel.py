"""Gumbel-top-k against the law of sampling without replacement, and its noise against that of a good generator."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from data_common.messages.errors import UserError
from data_selection.gumbel.method import select
from data_selection.noise import gumbel_noise, splitmix64

SCORE = np.array([-1.0, 0.0, 1.0, 2.0])
ROWS = np.arange(4)
POSSIBLE = 1e-3  # the seeds are fixed: a test that passes once passes always


def softmax(score, temperature):
    weight = np.exp(score / temperature)
    return weight / weight.sum()


def picks(score, draws, **keys):
    """How often each set of rows is picked: `draws` groups of rows that lie in one file, one seed."""
    n = len(score)
    picked = [tuple(sorted(select(score, ROWS[:n] + n * draw, **keys).tolist())) for draw in range(draws)]
    return {rows: picked.count(rows) for rows in set(picked)}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_first_pick_follows_the_softmax(temperature):
    draws = 4000
    counts = picks(SCORE, draws, k=1, temperature=temperature)
    observed = [counts.get((row,), 0) for row in ROWS]
    assert chisquare(observed, softmax(SCORE, temperature) * draws).pvalue > POSSIBLE


def test_the_first_pick_follows_the_softmax_over_seeds():
    draws = 2000
    picked = [select(SCORE, ROWS, k=1, seed=seed)[0] for seed in range(draws)]
    assert chisquare(np.bincount(picked, minlength=4), softmax(SCORE, 1) * draws).pvalue > POSSIBLE


def test_pairs_follow_the_law_of_drawing_without_replacement():
    draws, share = 4000, softmax(SCORE, 1.0)
    expected = {
        pair: draws * sum(share[first] * share[second] / (1 - share[first]) for first, second in permutations(pair))
        for pair in combinations(range(4), 2)
    }
    counts = picks(SCORE, draws, k=2)
    assert chisquare([counts.get(pair, 0) for pair in expected], list(expected.values())).pvalue > POSSIBLE


@pytest.mark.parametrize("keys", [{}, {"normalize": True}, {"temperature": math.inf}])
def test_without_preference_every_subset_is_equally_likely(keys):
    score = SCORE if "temperature" in keys else np.full(4, 0.1)
    counts = picks(score, 3000, k=2, **keys)
    assert len(counts) == 6
    assert chisquare(list(counts.values())).pvalue > POSSIBLE


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [1e-12, 5e-324])
@pytest.mark.parametrize("scale", [1.0, 1e300])
def test_a_temperature_near_zero_keeps_the_best(temperature, scale):
    score = np.random.default_rng(0).permutation(50) * scale / 50
    best = set(np.flatnonzero(score >= 40 * scale / 50))
    assert set(select(score, np.arange(50), k=10, temperature=temperature)) == best


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=12), st.integers(0, 2**70), st.data())
def test_a_row_beats_another_or_not_whoever_else_is_there(score, seed, data):
    """The order of sampling within any group of rows is the one they have among all rows."""
    score = np.array(score)
    group = np.array(data.draw(st.permutations(range(len(score)))))[: len(score) // 2 + 1]
    everyone = select(score, np.arange(len(score)), k=len(score), seed=seed)
    alone = group[select(score[group], group, k=len(group), seed=seed)]
    assert alone.tolist() == [row for row in everyone if row in group]


def test_noise_is_standard_gumbel_and_independent_over_rows_and_seeds():
    noise, other_seed = (gumbel_noise(np.arange(100_000), seed) for seed in (0, 1))
    assert kstest(noise, "gumbel_r").pvalue > POSSIBLE
    uniform, other_uniform = (np.exp(-np.exp(-values)) for values in (noise, other_seed))
    for pairs in ((uniform[0::2], uniform[1::2]), (uniform, other_uniform)):
        cells, _, _ = np.histogram2d(*pairs, bins=8, range=[(0, 1)] * 2)
        assert chisquare(cells.ravel()).pvalue > POSSIBLE


def test_splitmix64_gives_the_published_numbers():
    # The first outputs for seed 1234567, as listed at https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert splitmix64(np.uint64(1234567), np.arange(5)).tolist() == published


def test_normalising_forgets_shift_and_scale():
    score = np.random.default_rng(0).normal(size=200)
    rows = np.arange(200)
    expected = select(score, rows, r=0.3, normalize=True).tolist()
    assert select(1000 * score + 7, rows, r=0.3, normalize=True).tolist() == expected
    assert select(1000 * score + 7, rows, r=0.3).tolist() != expected


def test_the_seed_decides():
    score, rows = np.zeros(50), np.arange(50)
    one, again, two = (select(score, rows, k=5, seed=seed).tolist() for seed in (1, 1, 2))
    assert one == again != two


@pytest.mark.parametrize(
    ("n", "keys", "kept"),
    [(100, {"r": 0.29}, 29), (9, {"r": 0.5}, 4), (5, {"k": 0}, 0), (5, {"k": 9}, 5), (0, {"r": 1}, 0)],
)
def test_counts(n, keys, kept):
    picked = select(np.zeros(n), np.arange(n), **keys).tolist()
    assert len(picked) == len(set(picked)) == kept


@pytest.mark.parametrize("keys", [{}, {"r": 0.5, "k": 3}])
def test_exactly_one_of_r_and_k(keys):
    with pytest.raises(UserError, match="exactly one of r and k"):
        select(SCORE, ROWS, **keys)
