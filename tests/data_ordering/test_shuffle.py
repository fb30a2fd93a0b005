from collections import Counter

from scipy.stats import chisquare

from data_ordering.shuffle.method import order


def test_all_permutations_are_equally_likely():
    counts = Counter(tuple(order(3, seed=seed).tolist()) for seed in range(1200))
    assert len(counts) == 6
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_the_seed_decides():
    assert order(50, seed=1).tolist() == order(50, seed=1).tolist() != order(50, seed=2).tolist()
