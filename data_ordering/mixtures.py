"""Mixtures: rows of several groups drawn by shares of tokens, each group pass after pass."""

import sys
from collections.abc import Sequence

import numpy as np

from data_common.messages.errors import UserError

TOLERATED = 0.1  # share of the tokens of a draw that rows of some length may miss or exceed without a word


class Streams:
    """The rows of each group as an endless stream, shuffled anew for every pass; what is drawn is gone.

    Rows without tokens are in no stream. The streams depend on the seed alone, not on what is drawn of them.
    """

    def __init__(self, group: np.ndarray, names: Sequence[str], token_count: np.ndarray, seed: int):
        """group: (n,) numbers of the groups called `names`. token_count: (n,)."""
        self.names, self.token_count = names, token_count
        self.rows = [np.flatnonzero((group == number) & (token_count > 0)) for number in range(len(names))]
        self.generators = np.random.default_rng(seed).spawn(len(names))
        self.ahead = [np.empty(0, np.int64) for _ in names]  # shuffled, and not drawn yet
        self.owed = [0.0] * len(names)  # tokens that fewer were drawn than wanted, at most half a row

    def draw(self, shares: np.ndarray, tokens: float) -> np.ndarray:
        """Row numbers of about so many tokens, evenly interleaved. shares: (groups,), their sum is 1.

        All that was drawn of a group so far is within half a row of what its shares add up to. Fewer tokens give the
        beginning of the same rows.
        Without rows there is nothing to draw. Raises: UserError where a group with a share has no tokens.
        """
        drawn, times = [np.empty(0, np.int64)], [np.empty(0)]
        for number, share in enumerate(shares):
            if share > 0 and tokens > 0 and len(self.token_count):
                rows, middle = self._next(number, share * tokens)
                drawn.append(rows)
                times.append(middle / share)
        rows = np.concatenate(drawn)[np.argsort(np.concatenate(times), kind="stable")]
        _tell_missed(float(self.token_count[rows].sum()), tokens if len(self.token_count) else 0)
        return rows

    def _next(self, number: int, tokens: float) -> tuple[np.ndarray, np.ndarray]:
        """The next rows of a stream whose middle lies within so many tokens, and where their middles lie."""
        rows, ahead, tokens = self.rows[number], self.ahead[number], tokens + self.owed[number]
        total = self.token_count[rows].sum()
        if not total:
            raise UserError(f"the group {self.names[number]} has no tokens: nothing can be drawn of it")
        longest = self.token_count[rows].max()
        missing = tokens + longest - self.token_count[ahead].sum()
        passes = max(0, int(np.ceil(missing / total)))
        ahead = np.concatenate([ahead, *(self.generators[number].permutation(rows) for _ in range(passes))])
        size = self.token_count[ahead]
        middle = np.cumsum(size) - size / 2
        count = int(np.searchsorted(middle, tokens))
        self.ahead[number], self.owed[number] = ahead[count:], tokens - size[:count].sum()
        return ahead[:count], middle[:count]


def _tell_missed(found: float, asked: float) -> None:
    """A line where a draw has other than about so many tokens: what a group may give is less than its rows are long."""
    if abs(found - asked) > TOLERATED * asked:
        cause = "some groups may give less than half a row: ask for more tokens, or name fewer groups"
        print(f"warning: a phase of {asked:,.0f} tokens has {found:,.0f}: {cause}", file=sys.stderr)
