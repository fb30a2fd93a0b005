"""Like batches: rows of like score stand together in a batch, and the batches come in random order.

The contrast that Influence-driven Curriculum Learning (Schoenegger et al., arXiv 2508.15475, BabyLM 2025) suggests:
there the direction of the order hardly mattered; rows of like influence in the same batch may be what helped.
"""

import numpy as np

from data_common.calls.config import Positive, Seed
from data_ordering.patterns import ranked, shuffled_in_windows

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "own",
}


def order(score: np.ndarray, *, batch_size: Positive = 32, seed: Seed = 0) -> np.ndarray:
    """The permutation of batches of neighbours in `sorted`, in random order, each shuffled. score: (n,), raw values.

    Where batch_size does not divide n, the short batch is cut at a random place of `sorted` and stands last, so that
    the others begin at multiples of batch_size. Batches of one row, and one batch of all rows, are `shuffle`.

    Args:
        batch_size: rows of a batch, as many as an optimizer step has
        seed: of the random generator; the same seed gives the same order
    """
    n, generator = len(score), np.random.default_rng(seed)
    size = min(batch_size, max(1, n))
    full, rest = divmod(n, size)
    cut = size * int(generator.integers(full + 1))
    before, short, after = np.split(ranked(score, ascending=True), [cut, cut + rest])
    batches = generator.permutation(np.concatenate([before, after]).reshape(full, size))
    return shuffled_in_windows(np.append(batches, short), size, generator)
