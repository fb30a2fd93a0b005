"""Sample rows without replacement, better ones more often: the Gumbel-top-k trick.

Each row gets its score plus Gumbel noise, and the k largest sums are kept: exactly k draws without replacement with
probability proportional to exp(score / temperature) (Kool et al., arXiv 1903.06059). The selection of PDS (arXiv
2410.07064, temperature 0.1), DSIR (arXiv 2302.03169, temperature 1) and QuRating (arXiv 2402.09739, z-scores).
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.calls.config import Seed
from data_common.rows.statistics import z_scores
from data_selection.noise import noisy
from data_selection.ranking import best, row_budget

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
    count = row_budget(len(score), r, k)
    if normalize:
        score = z_scores(score)
    return best(noisy(score, row_number, temperature, seed), count)
