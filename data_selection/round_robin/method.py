"""Queries take turns, and each takes the best row that is left: the selection of RDS+.

RDS+ (Ivison et al., arXiv 2503.01807): one score for each query or task, e.g. the cosine to it.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from data_selection.ranking import row_budget

ABOUT = {
    "family": "several scores",
    "needs": "a score for each query",
    "cost": "copying the file",
    "formula": "paper",
}


def select(
    scores: np.ndarray,
    *,
    r: Annotated[float, Meta(ge=0, le=1)] | None = None,
    k: Annotated[int, Meta(ge=0)] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Row numbers of floor(r n) or k picks, all rows where there are fewer. scores: (n, queries), higher is better.

    A query whose best row is taken goes on to its next one, and does not lose its turn; ties go to the earlier row.

    Args:
        r: share of the rows to keep (null = k decides)
        k: number of rows to keep (null = r decides)

    Raises: UserError unless exactly one of r and k is given.
    """
    picked = picks(scores, min(row_budget(len(scores), r, k), len(scores)))
    turns = np.bincount(np.arange(len(picked)) % scores.shape[1], minlength=scores.shape[1])
    return np.array(picked, np.int64), {"picks_of_each_query": turns.tolist()}


def picks(scores: np.ndarray, count: int) -> Sequence[int]:
    """The first `count` <= n picks, in the order in which the queries take them."""
    lists = [iter(np.argsort(-score, kind="stable").tolist()) for score in scores.T]
    taken, picked = bytearray(len(scores)), []
    while len(picked) < count:
        row = next(row for row in lists[len(picked) % len(lists)] if not taken[row])
        taken[row] = True
        picked.append(row)
    return picked
