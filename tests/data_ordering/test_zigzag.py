import numpy as np

from data_ordering.zigzag.method import order


def test_literals():
    score = np.arange(20.0)
    zigzag = [0, 3, 6, 9, 12, 15, 18, 19, 16, 13, 10, 7, 4, 1, 2, 5, 8, 11, 14, 17]
    assert order(score, zigzag_layer=3).tolist() == zigzag
    assert order(-score, zigzag_layer=3, ascending=False).tolist() == zigzag
    assert order(score[:10]).tolist() == [0, 5, 6, 1, 2, 7, 8, 3, 4, 9]
    assert order(np.array([30.0, 10.0, 20.0, 40.0]), zigzag_layer=2).tolist() == [1, 0, 3, 2]


def test_one_layer_is_sorting():
    score = np.random.default_rng(0).random(11)
    assert order(score, zigzag_layer=1).tolist() == np.argsort(score).tolist()
