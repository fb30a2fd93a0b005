"""Replay: sorted by score, with earlier rows seen again among later ones. Rows repeat.

Replay of continual learning (Ibrahim et al., arXiv 2403.08763: a share of each batch is data of before), along a
curriculum: what is low in score is not forgotten while the scores rise. `utils.py --replay`, which makes an output
again, is something else.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive, Seed
from data_common.calls.decimals import as_written
from data_ordering.patterns import equal_parts, ranked

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file; replayed rows twice or more",
    "formula": "own",
}


def schedule(
    score: np.ndarray,
    *,
    blocks: Positive = 10,
    replay_share: Annotated[float, Meta(ge=0, le=0.5)] = 0.1,
    ascending: bool = True,
    seed: Seed = 0,
) -> np.ndarray:
    """Row numbers, all of them at least once: `sorted` in equal blocks, each with rows of earlier blocks among its own.

    score: (n,), raw values. With the share r, as many rows of earlier blocks are drawn as make the part r of the first
    1, 2, ... later blocks together, rounded: r / (1 - r) times the rows after the first block are added in all. A block
    draws uniformly from all rows before it, none twice, and has them at random places; its own rows stay sorted.
    r=0 and one block are `sorting`.

    Args:
        blocks: number of equal blocks of the sorted rows; the first has nothing to replay
        replay_share: share r of the rows of the other blocks that are replayed, at most half
        ascending: from low to high raw score, else from high to low
        seed: of the random generator; the same seed gives the same schedule
    """
    by_score, generator = ranked(score, ascending), np.random.default_rng(seed)
    first, *later = equal_parts(by_score, blocks)
    share, replayed, begin = as_written(replay_share), 0, len(first)
    mixed = [first]
    for own in later:
        wanted = round((begin + len(own) - len(first)) * share / (1 - share))
        again = by_score[generator.choice(begin, wanted - replayed, replace=False)]
        mixed.append(_scattered(own, again, generator))
        replayed, begin = wanted, begin + len(own)
    return np.concatenate(mixed)


def _scattered(own: np.ndarray, others: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """`own` in its order, with `others` in theirs at random places among it."""
    result = np.empty(len(own) + len(others), np.int64)
    places = np.zeros(len(result), bool)
    places[generator.choice(len(result), len(others), replace=False)] = True
    result[places], result[~places] = others, own
    return result
