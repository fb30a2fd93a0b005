"""Segment: one end of the scores first and one end last; for equal parts from low to high see `segments`.

SEG of Demystifying Data Organization (Dai et al., arXiv 2605.30334, ACL 2026): training begins with one end of the
scores and closes with one end of them; everything between, and each part in itself, is shuffled.
"""

import math
from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.calls.config import Seed
from data_common.calls.decimals import as_written
from data_common.messages.errors import UserError
from data_ordering.patterns import each_shuffled, ranked

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "paper",
}

Percentage = Annotated[float, Meta(ge=0, le=100)]


def order(
    score: np.ndarray,
    *,
    x_pct: Percentage = 10,
    y_pct: Percentage = 10,
    front_is_high: bool = False,
    back_is_high: bool = True,
    seed: Seed = 0,
) -> np.ndarray:
    """The permutation front, middle, back, each shuffled. score: (n,), raw values.

    Where front and back come from the same end, the rows of both are taken from there, shuffled, and then split.

    Args:
        x_pct: per cent of the rows in the front part, rounded down
        y_pct: per cent of the rows in the back part, rounded down
        front_is_high: the front part holds the highest raw scores, else the lowest
        back_is_high: the back part holds the highest raw scores, else the lowest
        seed: of the random generator; the same seed gives the same order

    Raises: UserError where both parts together are more than 100 per cent.
    """
    if as_written(x_pct) + as_written(y_pct) > 100:
        raise UserError(f"x_pct={x_pct:g} and y_pct={y_pct:g} are more than 100 per cent together")
    generator = np.random.default_rng(seed)
    x, y = (math.floor(as_written(percentage) * len(score) / 100) for percentage in (x_pct, y_pct))
    by_score = ranked(score, ascending=not front_is_high)  # begins with the rows for the front
    if front_is_high == back_is_high:
        front, back = np.split(generator.permutation(by_score[: x + y]), [x])
        middle = by_score[x + y :]
    else:
        front, middle, back = np.split(by_score, [x, len(score) - y])
    return each_shuffled((front, middle, back), generator)
