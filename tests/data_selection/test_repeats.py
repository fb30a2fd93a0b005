"""Copies to row numbers, against a walk."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_common.messages.errors import UserError
from data_selection.repeats import checked_copies, copies_facts, repeated


@given(st.lists(st.integers(0, 4), max_size=20))
def test_rows_come_pass_after_pass(copies):
    expected = [row for one in range(4) for row, count in enumerate(copies) if count > one]
    found = repeated(np.array(copies, int)).tolist()
    assert found == expected
    alone = [place for place in range(1, len(found)) if found[place] == found[place - 1]]
    assert not alone or sum(count == max(copies) for count in copies) == 1  # nothing could stand between


def test_too_many_copies_are_refused():
    with pytest.raises(UserError, match="2 rows have more than max_repeats=2 copies: max_repeats=5 allows them"):
        repeated(np.array([5, 1, 3]), max_repeats=2)


@pytest.mark.parametrize("copies", [[1, 2], [1, 2, -1], [[1], [2], [3]]])
def test_a_method_that_breaks_the_contract(copies):
    with pytest.raises(AssertionError, match="no number of copies for each row"):
        checked_copies(np.array(copies), 3)


def test_the_histogram():
    assert copies_facts(np.array([0, 2, 2, 0, 4])) == {"copies": {"rows": 3, "histogram": {"0": 2, "2": 2, "4": 1}}}
