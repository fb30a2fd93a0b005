"""Domain upsampling: another mixture of the groups at the end of training.

Does your data spark joy? (Blakeney et al., arXiv 2406.03476): a base mixture first, then an upsampled one for the last
share of the tokens; 10 to 20 per cent are recommended.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive, Seed
from data_common.messages.errors import UserError
from data_common.row_methods.groups import of_groups
from data_ordering.mixtures import Streams

ABOUT = {
    "family": "schedules of groups",
    "needs": "groups; token counts or a tokenizer",
    "cost": "copying the file; with a tokenizer, tokenizing it",
    "formula": "paper",
}

Weights = dict[str, Annotated[float, Meta(ge=0)]]


def schedule(
    group: np.ndarray,
    groups: Sequence[str],
    token_count: np.ndarray,
    *,
    base: Weights | None = None,
    final: Weights | None = None,
    final_share: Annotated[float, Meta(ge=0, le=1)] = 0.2,
    tokens: Positive | None = None,
    seed: Seed = 0,
) -> dict[str, np.ndarray]:
    """Phase -> row numbers. group, token_count: (n,). Each group's tokens in a phase are within a row of its share.

    A group's rows come pass after pass, each pass in another order; the final phase goes on where the base phase ended.
    The base phase is the beginning of the schedule without a final one.

    Args:
        base: weight of each group at first, others have none; null = as the tokens lie in the file
        final: weight of each group at the end, others have none; null = all groups alike
        final_share: share of the tokens in the final phase
        tokens: of the whole schedule; null = as many as the file has
        seed: of the random generator; the same seed gives the same schedule

    Raises: UserError for weights of groups that are none, or all 0; for a group that is to be drawn and has no tokens.
    """
    in_file = np.bincount(group, token_count, len(groups))
    shares = {
        "base": _shares(base, groups, "base", in_file),
        "final": _shares(final, groups, "final", np.ones(len(groups))),
    }
    streams, total = Streams(group, groups, token_count, seed), float(in_file.sum()) if tokens is None else tokens
    sizes = {"base": (1 - final_share) * total, "final": final_share * total}
    return {phase: streams.draw(shares[phase], size) for phase, size in sizes.items()}


def _shares(weights: Weights | None, groups: Sequence[str], key: str, default: np.ndarray) -> np.ndarray:
    """Weights whose sum is 1, (groups,)."""
    of_groups(weights or (), groups, key)
    if weights is not None and not sum(weights.values()):
        raise UserError(f"{key}: give a group a weight above 0")
    found = default if weights is None else np.array([weights.get(name, 0) for name in groups], float)
    return found / (found.sum() or 1)
