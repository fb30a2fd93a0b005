import numpy as np
import pytest

from data_ordering.folding.method import order


def test_literals():
    score = np.arange(20.0)
    folded = [0, 3, 6, 9, 12, 15, 18, 1, 4, 7, 10, 13, 16, 19, 2, 5, 8, 11, 14, 17]
    assert order(score).tolist() == folded
    assert order(-score, ascending=False).tolist() == folded
    assert order(np.array([30.0, 10.0, 20.0, 40.0]), folding_layer=2).tolist() == [1, 0, 2, 3]


def test_one_layer_is_sorting_and_as_many_layers_as_rows_too():
    score = np.random.default_rng(0).random(11)
    for layers in (1, 11, 1000):
        assert order(score, folding_layer=layers).tolist() == np.argsort(score).tolist()


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_every_fold_is_ascending_and_spans_the_scores(layers):
    score = np.random.default_rng(1).random(100)
    folds = np.split(
        score[order(score, folding_layer=layers)], np.cumsum([len(range(i, 100, layers)) for i in range(layers - 1)])
    )
    for fold in folds:
        assert (np.diff(fold) > 0).all()
        assert fold[0] <= np.sort(score)[layers - 1] and fold[-1] >= np.sort(score)[-layers]
