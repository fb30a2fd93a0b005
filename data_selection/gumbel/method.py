"""Sample rows without replacement, better ones more often: the Gumbel-top-k trick.

Each row gets its score plus Gumbel noise, and the k largest sums are kept: exactly k draws without replacement with
probability proportional to exp(score / temperature) (Kool et al., arXiv 1903.06059). The selection of PDS (arXiv
2410.07064, temperature 0.1), DSIR (arXiv 2302.03169, temperature 1) and QuRating (arXiv 2402.09739, z-scores).
"""

import math
from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.calls.config import Seed
from data_common.calls.decimals import as_written
from data_common.messages.errors import UserError
from data_common.rows.statistics import z_scores
from data_selection.ranking import best

ABOUT = {
    "family": "by one score, at random",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "paper",
}


def select(
    score: np.ndarray,
    row_number: np.ndarray,
    *,
    r: Annotated[float, Meta(ge=0, le=1)] | None = None,
    k: Annotated[int, Meta(ge=0)] | None = None,
    temperature: Annotated[float, Meta(gt=0)] = 1.0,
    normalize: bool = False,
    seed: Seed = 0,
) -> np.ndarray:
    """Indices of floor(r n) or k sampled rows, all where there are fewer. score: (n,), higher is better.

    row_number: (n,), the rows' numbers in the file. The noise of a row depends on it and on the seed alone: it is the
    same whichever other rows are there.

    Args:
        r: share of the rows to keep (null = k decides)
        k: number of rows to keep (null = r decides)
        temperature: near 0 keeps the best rows, a large one any rows
        normalize: turn the scores into z-scores first, so that temperature is in standard deviations
        seed: of the noise; the same seed gives the same rows

    Raises: UserError unless exactly one of r and k is given.
    """
    if (r is None) == (k is None):
        raise UserError("give exactly one of r and k: r=null k=NUMBER, or r=SHARE k=null")
    count = math.floor(as_written(r) * len(score)) if k is None else k
    if normalize:
        score = z_scores(score)
    # score / temperature + noise, all times min(temperature, 1): no temperature overflows
    noisy = score / max(temperature, 1) + min(temperature, 1) * gumbel_noise(row_number, seed)
    return best(noisy, count)


def gumbel_noise(row_number: np.ndarray, seed: int) -> np.ndarray:
    """One standard Gumbel variate a row, a function of its number and the seed. (n,) -> (n,)."""
    start = np.random.default_rng(seed).integers(2**64, dtype=np.uint64)
    # 52 bits and a half: strictly between 0 and 1
    uniform = ((splitmix64(start, row_number) >> np.uint64(12)) + 0.5) * 2.0**-52
    return -np.log(-np.log(uniform))


def splitmix64(start: np.uint64, position: np.ndarray) -> np.ndarray:
    """Outputs number `position` (from 0) of the SplitMix64 generator in the state `start`. (n,) -> (n,), uint64.

    Source: Steele, Lea, Flood, Fast splittable pseudorandom number generators, https://doi.org/10.1145/2660193.2660195
    """
    bits = start + (position.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
