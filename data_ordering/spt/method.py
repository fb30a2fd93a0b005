"""Specialized pretraining: a small domain set is repeated through training, not only fine-tuned on at its end.

The finetuner's fallacy (SPT; arXiv 2603.16177): a fixed share of the tokens comes from the domain set, pass after pass,
from the start or from late on.
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
    "needs": "groups, one of them the domain set; token counts or a tokenizer",
    "cost": "copying the file; with a tokenizer, tokenizing it",
    "formula": "paper",
}


def schedule(
    group: np.ndarray,
    groups: Sequence[str],
    token_count: np.ndarray,
    *,
    domain: list[str],
    domain_share: Annotated[float, Meta(ge=0, le=1)] = 0.05,
    start: Annotated[float, Meta(ge=0, lt=1)] = 0.0,
    tokens: Positive | None = None,
    seed: Seed = 0,
) -> dict[str, np.ndarray]:
    """Phase -> row numbers. group, token_count: (n,). All groups but the domain set are the general pool.

    Both come pass after pass, each pass in another order. In every stretch of a phase the domain set has its share of
    the tokens, up to one row. domain_share=0 is the stream of the general pool alone.

    Args:
        domain: groups that make the domain set
        domain_share: share of the tokens that comes from the domain set (delta of the paper: 0.01 to 0.1)
        start: share of the tokens that comes first, without the domain set; 0 = the domain set is there from the start
        tokens: of the whole schedule; null = as many as use the general pool once
        seed: of the random generator; the same seed gives the same schedule

    Raises: UserError for a domain that is no group or none, and where a part that is to be drawn has no tokens.
    """
    if not domain:
        raise UserError("domain: name at least one group")
    of_groups(domain, groups, "domain")
    special = np.isin(group, [number for number, name in enumerate(groups) if name in domain])
    streams = Streams(special.astype(int), ["outside of domain", ", ".join(domain)], token_count, seed)
    if tokens is None:
        general = start + (1 - start) * (1 - domain_share)  # its share of all tokens
        if not general:
            raise UserError("domain_share=1 leaves the general pool unused: set tokens")
        tokens = token_count[~special].sum() / general
    alone = streams.draw(np.array([1.0, 0.0]), start * tokens)
    mixed = streams.draw(np.array([1 - domain_share, domain_share]), (1 - start) * tokens)
    return {"general": alone, "mixed": mixed} if start else {"mixed": mixed}
