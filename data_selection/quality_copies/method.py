"""Copies of rows by quality within each domain: the sampling of QuaDMix (arXiv 2504.16511), equations 1 to 3.

Several scores become one for each domain; a row's rank in its domain, in tokens, gives the copies of it on average.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from data_common.calls.config import Seed
from data_common.messages.errors import UserError
from data_common.messages.visible import brief
from data_common.row_methods.groups import per_group
from data_common.rows.statistics import Normalization, normalised
from data_selection.noise import uniform

ABOUT = {
    "family": "several scores, with copies",
    "needs": "scores; domains; token counts or a tokenizer",
    "cost": "copying the file; with a tokenizer, tokenizing it",
    "formula": "reconstruction",
}

Share = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0)]
MOST = 2.0**53  # copies of a row: far more than any file has, and few enough to be counted


def copies(
    scores: np.ndarray,
    group: np.ndarray,
    groups: Sequence[str],
    token_count: np.ndarray,
    row_number: np.ndarray,
    *,
    weights: list[NotNegative] | dict[str, list[NotNegative]] | None = None,
    normalize: Normalization = "rank",
    steepness: NotNegative | dict[str, NotNegative] = 100.0,
    threshold: Share | dict[str, Share] = 0.1,
    scale: NotNegative | dict[str, NotNegative] = 1.0,
    floor: NotNegative | dict[str, NotNegative] = 0.001,
    scale_as: Literal["exponent", "factor"] = "exponent",
    seed: Seed = 0,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Copies of each row, (n,), S on average: floor(S), and one more with the probability of what is left.

    With the rank r, the share of the domain's tokens in rows that are as good or better, S = (2 / (1 + exp(-steepness
    (threshold - r)))) ** scale + floor where r <= threshold, else floor.
    scores: (n, k), higher is better. group, token_count, row_number: (n,); the luck of a row depends on its number and
    the seed alone.

    Args:
        weights: of each of score_fields in their order; null = all equal; {GROUP: [...], ...} for each group
        normalize: what puts the scores on one scale: rank = share of the rows that are worse; z-score = deviations
        steepness: lambda of the paper: how fast the copies fall with the rank; a number, or one for each group
        threshold: omega: the best share of a group's tokens, which is kept; a number, or one for each group
        scale: eta: the best rows have up to 2 ** scale copies; a number, or one for each group
        floor: epsilon: copies that every row has on average, of whatever rank; a number, or one for each group
        scale_as: exponent, or factor = the copies are scale * 2 / (1 + exp(...)), the other reading of equation 3
        seed: of the luck; the same seed gives the same copies

    Raises: UserError for values of groups that are none, a group without tokens, weights that do not fit the scores.
    """
    own = {"steepness": steepness, "threshold": threshold, "scale": scale, "floor": floor}
    if infinite := [key for key, value in own.items() if value == math.inf]:
        raise UserError(f"{infinite[0]}: infinity is no value")
    rank = percentile(
        merged(scores, group, _weights(weights, groups, scores.shape[1]), normalize), group, groups, token_count
    )
    of_rows = [np.array(per_group(value, groups, key), float)[group] for key, value in own.items()]
    expected = expected_copies(rank, *of_rows, scale_as)
    whole = np.floor(expected)
    drawn = whole + (uniform(row_number, seed) < expected - whole)
    return drawn.astype(np.int64), {"expected_copies": round(float(expected.sum()), 3)}


def merged(scores: np.ndarray, group: np.ndarray, weights: np.ndarray, normalize: Normalization) -> np.ndarray:
    """Equation 1: the weighted sum of the normalised scores, (n,). scores: (n, k); weights: (groups, k)."""
    scaled = np.column_stack([normalised(score, normalize) for score in scores.T])
    return (scaled * weights[group]).sum(1)


def percentile(quality: np.ndarray, group: np.ndarray, groups: Sequence[str], token_count: np.ndarray) -> np.ndarray:
    """Equation 2: the share of the group's tokens in rows of at least this quality, (n,) in (0, 1].

    Raises: UserError for a group without tokens.
    """
    if not len(quality):
        return quality
    total = np.bincount(group, token_count, len(groups))
    if not total.all():
        name = brief(groups[int(np.argmin(total))])
        raise UserError(f"the group {name} has no tokens: its rows have no rank (does tokens_field count them?)")
    order = np.lexsort((-quality, group))
    begins = np.append(True, (np.diff(group[order]) != 0) | (np.diff(quality[order]) != 0))  # rows that are not equal
    last = np.append(np.flatnonzero(begins)[1:], len(order)) - 1
    used = np.cumsum(token_count[order], dtype=float)[last][np.cumsum(begins) - 1]
    rank = np.empty(len(order))
    rank[order] = (used - (np.cumsum(total) - total)[group[order]]) / total[group[order]]
    return np.minimum(rank, 1)  # fractions of tokens may add up to a little more


def expected_copies(
    rank: np.ndarray,
    steepness: np.ndarray,
    threshold: np.ndarray,
    scale: np.ndarray,
    floor: np.ndarray,
    scale_as: str = "exponent",
) -> np.ndarray:
    """Equation 3, S of each row, at most MOST; all (n,)."""
    sigmoid = 2 / (1 + np.exp(-steepness * np.maximum(threshold - rank, 0)))
    with np.errstate(over="ignore"):
        kept = sigmoid**scale if scale_as == "exponent" else scale * sigmoid
        return np.minimum(np.where(rank <= threshold, kept, 0) + floor, MOST)


def _weights(weights: Any, groups: Sequence[str], k: int) -> np.ndarray:
    """(groups, k). Raises: UserError unless each group has a number for each score, not all of them 0."""
    of_all = [[1.0] * k] * len(groups) if weights is None else per_group(weights, groups, "weights")
    if any(len(one) != k or not sum(one) for one in [*of_all, *([weights] if isinstance(weights, list) else [])]):
        raise UserError(f"weights: {k} numbers are needed, one for each of score_fields, not all of them 0")
    return np.array(of_all, float).reshape(-1, k)
