import numpy as np
import pytest

from data_ordering.folding.method import order as folding
from data_ordering.stair.method import order

SCORE = np.random.default_rng(0).random(30)


def test_literals():
    score = np.arange(20.0)
    stair = [0, 1, 2, 3, 4, 5, 6, 9, 12, 7, 10, 13, 8, 11, 14, 15, 16, 17, 18, 19]
    assert order(score).tolist() == stair
    assert order(-score, ascending=False).tolist() == stair
    # 12 rows cut at 4 and 8, radius round(3.6) = 4: the windows are 0..7 and, of 4..11, what is left: 8..11
    overlapping = [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 9, 11]
    assert order(score[:12], num_sections=3, folding_ratio=0.3, folding_layer=2).tolist() == overlapping


@pytest.mark.parametrize("keys", [{"num_sections": 1}, {"folding_ratio": 0}, {"folding_layer": 1}])
def test_nothing_to_fold_is_sorting(keys):
    assert order(SCORE, **keys).tolist() == np.argsort(SCORE).tolist()


def test_one_window_over_all_rows_is_folding():
    assert order(SCORE, folding_ratio=0.5).tolist() == folding(SCORE, folding_layer=3).tolist()
