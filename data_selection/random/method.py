"""Keep rows at random, each set of rows as likely as any other: the control of every selection by a score.

Simple random sampling without replacement, https://doi.org/10.1145/3147.3165 (Vitter 1985).
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.calls.config import Seed
from data_selection.noise import uniform
from data_selection.ranking import best, row_budget

ABOUT = {
    "family": "at random",
    "needs": "nothing",
    "cost": "copying the file",
    "formula": "own",
}


def select(
    row_number: np.ndarray,
    *,
    r: Annotated[float, Meta(ge=0, le=1)] | None = None,
    k: Annotated[int, Meta(ge=0)] | None = None,
    seed: Seed = 0,
) -> np.ndarray:
    """Row numbers of floor(r n) or k rows, all where there are fewer.

    row_number: (n,). The luck of a row depends on its number in the file and on the seed alone: a smaller share is part
    of a larger one.

    Args:
        r: share of the rows to keep (null = k decides)
        k: number of rows to keep (null = r decides)
        seed: of the draw; the same seed gives the same rows

    Raises: UserError unless exactly one of r and k is given.
    """
    return best(uniform(row_number, seed), row_budget(len(row_number), r, k))
