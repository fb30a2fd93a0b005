import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_ordering.folding.method import order as folding
from data_ordering.interleave.method import order

SIZES, BLOCKS = st.integers(0, 80), st.integers(1, 90)


def blocks_of(score, size, **keys):
    """The scores of each block; the first n mod M of the M blocks have one row more."""
    n, count = len(score), max(1, -(-len(score) // size))
    lengths = [n // count + (block < n % count) for block in range(count)]
    return np.split(score[order(score, block_size=size, **keys)], np.cumsum(lengths)[:-1])


@given(SIZES, BLOCKS)
def test_the_ranks_of_each_block(n, size):
    """By definition: the lowest n mod M ranks to the first blocks, of M neighbours each one to every block."""
    score = np.random.default_rng(n).permutation(n).astype(float)
    count = max(1, -(-n // size))
    expected = [[] for _ in range(count)]
    for rank in range(n):
        expected[rank if rank < n % count else (rank - n % count) % count].append(rank)
    assert [sorted(block) for block in blocks_of(score, size)] == expected


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), BLOCKS, st.booleans())
def test_the_mean_of_the_blocks_rises(score, size, ascending):
    blocks = blocks_of(np.array(score, float), size, ascending=ascending)
    assert max(map(len, blocks)) <= size and max(map(len, blocks)) - min(map(len, blocks)) <= 1
    steps = np.diff([block.mean() for block in blocks])
    assert (steps * (1 if ascending else -1) >= -1e-12).all()


def test_every_block_spans_all_scores():
    blocks = blocks_of(np.random.default_rng(0).permutation(1003).astype(float), 20)
    assert len(blocks) == 51
    for block in blocks:
        assert min(block) < 2 * 51 and max(block) >= 1003 - 51
        assert np.diff(np.sort(block)).max() <= 2 * 51


@pytest.mark.parametrize("n", [0, 1, 2, 51])
def test_its_ends_are_sorting_and_shuffling(n):
    score = np.random.default_rng(n).random(n)
    assert order(score, block_size=1).tolist() == np.argsort(score).tolist()
    for size in (max(n, 1), 2**62):
        shuffled = np.argsort(score)[np.random.default_rng(4).permutation(n)]
        assert order(score, block_size=size, seed=4).tolist() == shuffled.tolist()


def test_it_is_folding_with_shuffled_folds():
    score = np.random.default_rng(1).random(60)
    folds = folding(score, folding_layer=5).reshape(5, 12)
    assert np.sort(order(score, block_size=12).reshape(5, 12)).tolist() == np.sort(folds).tolist()
    assert order(score, block_size=12, seed=1).tolist() != order(score, block_size=12, seed=2).tolist()
