"""Streams of groups: shares, passes, beginnings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_common.messages.errors import UserError
from data_ordering.mixtures import Streams

RNG = np.random.default_rng(0)
GROUP, TOKENS = RNG.integers(0, 3, 200), RNG.integers(0, 30, 200)
SHARES = np.array([0.5, 0.3, 0.2])


def streams(seed=0):
    return Streams(GROUP, ["a", "b", "c"], TOKENS, seed)


@given(st.floats(1, 20_000), st.integers(0, 9))
def test_each_group_has_its_share_within_half_a_row(tokens, seed):
    rows = streams(seed).draw(SHARES, tokens)
    found = np.bincount(GROUP[rows], TOKENS[rows], 3)
    assert (np.abs(found - SHARES * tokens) <= TOKENS.max() / 2).all()


@given(st.floats(1, 9_000), st.floats(1, 9_000))
def test_fewer_tokens_are_the_beginning(one, two):
    short, long = (streams().draw(SHARES, tokens) for tokens in sorted((one, two)))
    assert long[: len(short)].tolist() == short.tolist()


def test_every_stretch_has_the_shares():
    rows = streams().draw(SHARES, 30_000)
    for begin in range(0, len(rows) - 100, 50):
        some = rows[begin : begin + 100]
        found = np.bincount(GROUP[some], TOKENS[some], 3)
        assert (np.abs(found - SHARES * found.sum()) <= 2 * TOKENS.max()).all()


@given(st.integers(0, 5), st.integers(1, 8000))
def test_rows_come_pass_after_pass(seed, tokens):
    rows = streams(seed).draw(SHARES, tokens)
    for number in range(3):
        there = np.flatnonzero((number == GROUP) & (TOKENS > 0))
        drawn = rows[GROUP[rows] == number]
        counts = np.bincount(drawn, minlength=200)[there]
        assert counts.max() - counts.min() <= 1
        for begin in range(0, len(drawn) - len(there) + 1, len(there)):
            assert sorted(drawn[begin : begin + len(there)]) == there.tolist()


def test_what_is_drawn_later_goes_on():
    two = streams()
    first, second = two.draw(SHARES, 200), two.draw(SHARES, 300)
    together = streams().draw(SHARES, 500)
    assert sorted([*first, *second]) == sorted(together)
    assert not set(first) & set(second)


def test_without_tokens_nothing_can_be_drawn():
    empty = Streams(np.array([0, 1]), ["web", "code"], np.array([3, 0]), 0)
    assert empty.draw(np.array([1.0, 0.0]), 3).tolist() == [0]
    with pytest.raises(UserError, match="the group code has no tokens"):
        empty.draw(np.array([0.5, 0.5]), 3)


def test_a_draw_that_misses_its_tokens_is_told(capsys):
    """A hundred groups of one row each: each may give 3 tokens, and has rows of 10 or of 4."""
    sizes = np.where(np.arange(100) % 2, 10, 4)
    drawn = Streams(np.arange(100), [str(number) for number in range(100)], sizes, 0).draw(np.full(100, 0.01), 300)
    assert set(sizes[drawn]) == {4}
    assert "warning: a phase of 300 tokens has 200: some groups may give less" in capsys.readouterr().err
    streams().draw(SHARES, 2000)
    assert not capsys.readouterr().err
