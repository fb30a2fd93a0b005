"""A threshold of its own for each group, from one that is right for one group: by quantile, mean or median.

How FineWeb2 (Penedo et al., arXiv 2506.20920) takes the thresholds of English filters to a thousand languages.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from data_common.calls.decimals import as_written
from data_common.messages.errors import UserError
from data_common.row_methods.groups import of_groups, per_group

ABOUT = {
    "family": "by one score",
    "needs": "a score; groups, one of which has a threshold that is right",
    "cost": "copying the file",
    "formula": "paper",
}


def select(
    score: np.ndarray,
    higher_is_better: bool,
    group: np.ndarray,
    groups: Sequence[str],
    *,
    rule: Literal["tail", "quantile", "mean-std", "median-ratio", "given"] = "tail",
    tail: Annotated[float, Meta(ge=0, lt=1)] = 0.1,
    reference: str | None = None,
    threshold: float | dict[str, float] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Row numbers of the scores on the good side of the threshold of their group. score: (n,), raw values.

    group: (n,), numbers; groups: their names.

    Args:
        rule: tail = each group loses the share `tail`, its worst; quantile = the share that the reference loses;
            mean-std = as many standard deviations from the mean as the reference; median-ratio = the threshold of the
            reference times the ratio of the medians; given = `threshold` has one for each group
        tail: share of each group that is left out with rule=tail; of equal scores at the cut none is
        reference: name of the group to which `threshold` belongs, for quantile, mean-std and median-ratio
        threshold: of the reference; with rule=given one number, or {GROUP: NUMBER, ...}

    Raises: UserError where a rule lacks its keys, for a reference that is no group or loses all rows, and where its
        median is 0.
    """
    _check(rule, reference, threshold)
    if not len(score):
        return np.empty(0, np.int64), {}
    if rule == "given":
        bounds = np.array(per_group(threshold, groups, "threshold"), float)
    else:
        sign = 1 if higher_is_better else -1
        parts = [sign * score[group == one] for one in range(len(groups))]
        if rule != "tail":
            of_groups([reference], groups, "reference")
        known = None if rule == "tail" else (parts[list(groups).index(reference)], sign * threshold)
        bounds = sign * np.array([_bound(part, rule, tail, known) for part in parts])
    own = bounds[group]
    kept = np.flatnonzero(score >= own if higher_is_better else score <= own)
    return kept, {"thresholds": {name: float(bound) for name, bound in zip(groups, bounds, strict=True)}}


def _bound(part: np.ndarray, rule: str, tail: float, known: tuple[np.ndarray, float] | None) -> float:
    """The threshold of a group with these scores, (m,), higher is better. known: scores of the reference, its own."""
    if known is None:
        return _at(part, math.floor(as_written(tail) * len(part)))
    reference, threshold = known
    if rule == "quantile":
        lost = int((reference < threshold).sum())
        if lost == len(reference):
            raise UserError("rule=quantile: no row of the reference reaches the threshold, so that none would stay")
        return _at(part, lost * len(part) // len(reference))
    if rule == "mean-std":
        deviations = (threshold - reference.mean()) / (reference.std() or 1)
        return float(part.mean() + deviations * part.std())
    if not np.median(reference):
        raise UserError("rule=median-ratio: the median of the reference is 0, and nothing has a ratio to it")
    return float(threshold * np.median(part) / np.median(reference))


def _at(part: np.ndarray, lost: int) -> float:
    """The lowest score that stays where `lost` rows are left out."""
    return float(np.sort(part)[lost])


def _check(rule: str, reference: str | None, threshold: float | dict[str, float] | None) -> None:
    """Raises UserError where a rule lacks its keys, or has those of another one."""
    if rule == "tail" and (reference is not None or threshold is not None):
        raise UserError("rule=tail reads neither reference nor threshold: leave them out, or set another rule")
    if rule == "given" and (reference is not None or threshold is None):
        raise UserError("rule=given needs threshold=NUMBER or threshold={GROUP: NUMBER, ...}, and no reference")
    by_reference = rule not in ("tail", "given")
    if by_reference and (reference is None or not isinstance(threshold, int | float)):
        raise UserError(f"rule={rule} needs reference=GROUP and threshold=NUMBER, which is right for that group")
