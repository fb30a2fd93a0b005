import numpy as np
import pytest

from data_ordering.saw.method import order
from data_ordering.zigzag.method import order as zigzag

SCORE = np.random.default_rng(0).random(30)


def test_literals():
    score = np.arange(20.0)
    saw = [0, 1, 2, 3, 4, 5, 7, 8, 6, 9, 10, 11, 13, 14, 12, 15, 16, 17, 18, 19]
    assert order(score).tolist() == saw
    assert order(-score, ascending=False).tolist() == saw


@pytest.mark.parametrize("keys", [{"num_sections": 1}, {"folding_ratio": 0}, {"folding_layer": 1}])
def test_nothing_to_zigzag_is_sorting(keys):
    assert order(SCORE, **keys).tolist() == np.argsort(SCORE).tolist()


def test_one_window_over_all_rows_is_zigzag():
    one_window = order(SCORE, num_sections=2, folding_ratio=0.5, folding_layer=5)
    assert one_window.tolist() == zigzag(SCORE, zigzag_layer=5).tolist()
