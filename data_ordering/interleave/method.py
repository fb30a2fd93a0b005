"""Interleave: every block spans all scores, and the mean of the blocks rises.

After the interleaved curricula of Beyond Random Sampling (Zhang et al., arXiv 2506.11300, EACL 2026), which mix all
levels of difficulty in each part of the training. A block is a fold of `folding`, of so many folds that each has the
size of a block, and shuffled.
"""

import math

import numpy as np

from data_common.calls.config import Positive, Seed
from data_ordering.patterns import each_shuffled, ranked

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "own",
}


def order(score: np.ndarray, *, block_size: Positive = 32, ascending: bool = True, seed: Seed = 0) -> np.ndarray:
    """The permutation of M = ceil(n / block_size) blocks, each shuffled. score: (n,), raw values.

    The sorted rows are cut into groups of M neighbours; block m has the m-th row of every group. Where M does not
    divide n, the n mod M lowest rows go one each to the first blocks, so that block sizes differ by at most one row and
    no mean is below that of the block before it. Blocks of one row are `sorting`, one block is `shuffle`.

    Args:
        block_size: most rows of a block, as many as an optimizer step has
        ascending: the mean of the blocks rises, else it falls
        seed: of the random generator that shuffles inside the blocks; the same seed gives the same order
    """
    by_score = ranked(score, ascending)
    count = max(1, math.ceil(len(score) / block_size))
    first, groups = np.split(by_score, [len(score) % count])
    blocks = [np.append(first[m : m + 1], groups[m::count]) for m in range(count)]
    return each_shuffled(blocks, np.random.default_rng(seed))
