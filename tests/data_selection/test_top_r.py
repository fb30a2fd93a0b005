import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_selection.top_r.method import select


@pytest.mark.parametrize(
    ("r", "n", "kept"), [(0, 9, 0), (1, 9, 9), (0.5, 9, 4), (0.29, 100, 29), (0.1, 30, 3), (0.999, 10, 9)]
)
def test_keeps_floor_of_r_n(r, n, kept):
    assert len(select(np.arange(float(n)), r=r)) == kept


def test_ties_at_the_cut_go_to_the_earlier_row():
    assert sorted(select(np.array([1.0, 2.0, 1.0, 2.0, 2.0]), r=0.4)) == [1, 3]


@given(st.lists(st.floats(-5, 5), min_size=1), st.floats(0, 1))
def test_no_row_left_out_is_better_than_one_kept(score, r):
    kept = set(select(np.array(score), r=r).tolist())
    left = set(range(len(score))) - kept
    assert not kept or not left or min(score[i] for i in kept) >= max(score[i] for i in left)
