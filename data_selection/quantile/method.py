"""Keep a band of the scores between two quantiles.

The buckets of CCNet (arXiv 1911.00359): head, middle and tail of the raw scores, cut at quantiles 0.3 and 0.6.
"""

import math
from typing import Annotated

import numpy as np
from msgspec import Meta

from common.decimals import as_written
from common.errors import UserError

Quantile = Annotated[float, Meta(ge=0, le=1)]


def select(
    raw_score: np.ndarray,
    *,
    lower_quantile: Quantile = 0.0,
    upper_quantile: Quantile = 0.3,
) -> np.ndarray:
    """Row numbers whose rank is floor(lower n) <= rank < floor(upper n), rank 0 the lowest. raw_score: (n,).

    Adjacent bands share no row and leave none out; equal scores rank in the order of the input.

    Args:
        lower_quantile: the band begins here; 0 is the lowest raw score
        upper_quantile: the band ends before here; 1 is the highest raw score

    Raises: UserError where the band ends before it begins.
    """
    if lower_quantile > upper_quantile:
        raise UserError(f"lower_quantile={lower_quantile:g} is above upper_quantile={upper_quantile:g}")
    begin, end = (math.floor(as_written(quantile) * len(raw_score)) for quantile in (lower_quantile, upper_quantile))
    return np.argsort(raw_score, kind="stable")[begin:end]
