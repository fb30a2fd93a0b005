import numpy as np
import pytest

from data_common.messages.errors import UserError
from data_selection.threshold.method import select

SCORE = np.array([1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    ("higher", "keys", "kept"),
    [
        (True, {"threshold": 2}, [1, 2, 3]),
        (True, {"threshold": 2, "strict": True}, [2, 3]),
        (True, {"threshold": 2, "upper": 3}, [1, 2]),
        (True, {"threshold": 1, "upper": 3, "strict": True}, [1]),
        (False, {"threshold": 2}, [0, 1]),
        (False, {"threshold": 2, "strict": True}, [0]),
        (True, {"threshold": 9}, []),
    ],
)
def test_truth_table(higher, keys, kept):
    assert select(SCORE, higher, **keys).tolist() == kept


def test_upper_where_lower_is_better_is_refused():
    with pytest.raises(UserError, match="leave upper out"):
        select(SCORE, False, threshold=3, upper=4)


def test_bounds_that_exclude_each_other():
    with pytest.raises(UserError, match="no row can pass both"):
        select(SCORE, True, threshold=3, upper=2)
