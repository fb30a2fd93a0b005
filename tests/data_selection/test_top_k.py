import numpy as np
import pytest

from data_selection.top_k.method import select


@pytest.mark.parametrize(("k", "kept"), [(0, []), (1, [1]), (2, [1, 3]), (4, [0, 1, 2, 3]), (99, [0, 1, 2, 3])])
def test_literals(k, kept):
    assert sorted(select(np.array([1.0, 9.0, 1.0, 5.0]), k=k)) == kept
