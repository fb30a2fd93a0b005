"""Keep the rows whose score passes a threshold.

The selection of DELT (arXiv 2506.21545, section 3) by an absolute score, honouring the direction of the score.
"""

import numpy as np

from common.errors import UserError


def select(
    score: np.ndarray,
    higher_is_better: bool,
    *,
    threshold: float,
    upper: float | None = None,
    strict: bool = False,
) -> np.ndarray:
    """Row numbers of the scores on the good side of `threshold`. score: (n,), raw values.

    Where higher is better that is score >= threshold, else score <= threshold.

    Args:
        threshold: the bound that a score must reach
        upper: keep only scores up to this bound too (null = no such bound)
        strict: true excludes scores equal to a bound

    Raises: UserError where `upper` leaves nothing by definition.
    """
    at_least, at_most = (np.greater, np.less) if strict else (np.greater_equal, np.less_equal)
    keep = at_least(score, threshold) if higher_is_better else at_most(score, threshold)
    if upper is not None:
        if higher_is_better and upper < threshold:
            raise UserError(f"upper={upper:g} is below threshold={threshold:g}: no row can pass both")
        keep &= at_most(score, upper)
    return np.flatnonzero(keep)
