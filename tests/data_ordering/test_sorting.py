import numpy as np

from data_ordering.sorting.method import order


def test_literals():
    score = np.array([3.0, 1.0, 2.0, 1.0])
    assert order(score).tolist() == [1, 3, 2, 0]
    assert order(score, ascending=False).tolist() == [0, 2, 1, 3]  # ties keep the order of the input both ways
