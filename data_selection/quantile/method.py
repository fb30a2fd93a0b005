"""Keep a band of the scores between two quantiles: head, middle or tail by quality, or raw bounds.

The buckets of CCNet (arXiv 1911.00359), cut at quantiles 0.3 and 0.6 of the perplexity.
"""

import math
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from data_common.calls.decimals import as_written
from data_common.messages.errors import UserError

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "paper",
}

VERSIONS = {2: "without bounds it keeps the best 30 %, whichever scores are better; it was the lowest 30 %"}
BANDS = {"head": (0.0, 0.3), "middle": (0.3, 0.6), "tail": (0.6, 1.0)}  # from the best on
UNKNOWN = (
    "which scores are better? Set direction=higher or direction=lower (beside select=quantile, select.direction), or "
    "bounds of the raw scores: lower_quantile and upper_quantile"
)
LOWER, UPPER = 0.0, 0.3  # of raw scores, where only the other bound is given

Quantile = Annotated[float, Meta(ge=0, le=1)]


def select(
    raw_score: np.ndarray,
    direction: str | None,
    *,
    band: Literal["head", "middle", "tail"] | None = None,
    lower_quantile: Quantile | None = None,
    upper_quantile: Quantile | None = None,
) -> np.ndarray:
    """Row numbers whose rank is floor(lower n) <= rank < floor(upper n). raw_score: (n,).

    Rank 0 is the best score of a band by quality, the lowest one of raw bounds; equal scores rank in the order of the
    input. Adjacent bands share no row and leave none out. direction: "higher" or "lower", which is better; None = not
    known.

    Args:
        band: head = the best 30 %, middle = the next 30 %, tail = the rest; null = head, unless bounds are given
        lower_quantile: the band begins here; 0 is the lowest raw score, whichever are better; null = 0 beside the other
        upper_quantile: the band ends before here; 1 is the highest raw score; null = 0.3 beside the other

    Raises: UserError where the band ends before it begins, where band and bounds are given, and where a band is wanted
        of scores of which nothing tells which are better.
    """
    if lower_quantile is None and upper_quantile is None:
        if direction is None:
            raise UserError(UNKNOWN)
        return _ranked(-raw_score if direction == "higher" else raw_score, *BANDS[band or "head"])
    if band is not None:
        raise UserError(f"band={band} is by quality, lower_quantile and upper_quantile are of raw scores: drop one")
    lower = LOWER if lower_quantile is None else lower_quantile
    upper = UPPER if upper_quantile is None else upper_quantile
    if lower > upper:
        raise UserError(f"lower_quantile={lower:g} is above upper_quantile={upper:g}")
    return _ranked(raw_score, lower, upper)


def _ranked(score: np.ndarray, lower: float, upper: float) -> np.ndarray:
    begin, end = (math.floor(as_written(quantile) * len(score)) for quantile in (lower, upper))
    return np.argsort(score, kind="stable")[begin:end]
