"""Keep the rows whose score passes a threshold.

The selection of DELT (arXiv 2506.21545, section 3) by an absolute score, honouring the direction of the score.
"""

import numpy as np

from data_common.messages.errors import UserError

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "paper",
}


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
        upper: keep only scores up to this bound too, where higher is better (null = no such bound)
        strict: true excludes scores equal to a bound

    Raises: UserError where `upper` leaves nothing by definition, or bounds the side that `threshold` bounds already.
    """
    at_least, at_most = (np.greater, np.less) if strict else (np.greater_equal, np.less_equal)
    if upper is None:
        return np.flatnonzero(at_least(score, threshold) if higher_is_better else at_most(score, threshold))
    if not higher_is_better:
        raise UserError("lower scores are better, so threshold is the upper bound already: leave upper out")
    if upper < threshold:
        raise UserError(f"upper={upper:g} is below threshold={threshold:g}: no row can pass both")
    return np.flatnonzero(at_least(score, threshold) & at_most(score, upper))
