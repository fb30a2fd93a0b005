"""Keep the best rows until a budget of tokens is used up.

The selection of studies that compare data at equal tokens, e.g. QuRating (Wettig et al., arXiv 2402.09739).
"""

import numpy as np

from data_common.calls.config import Positive
from data_selection.ranking import best

ABOUT = {
    "family": "by one score",
    "needs": "a score; token counts or a tokenizer",
    "cost": "copying the file; with a tokenizer, tokenizing it",
    "formula": "own",
}


def select(score: np.ndarray, token_count: np.ndarray, *, tokens: Positive) -> np.ndarray:
    """Indices of the best rows whose tokens add up to `tokens` at most; at least one. score: (n,), higher is better.

    token_count: (n,), >= 0. The row that crosses the budget is left out, and all that are worse; ties go to the
    earlier row.

    Args:
        tokens: the budget; with group_field, of each group
    """
    by_score = best(score, len(score))
    used = np.cumsum(token_count[by_score])
    return by_score[: max(1, np.searchsorted(used, tokens, side="right"))]
