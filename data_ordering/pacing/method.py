"""Pacing: rows are drawn at random from the lowest scores; the share that may be drawn grows to all rows.

The pacing functions of When Do Curricula Work? (Wu, Dyer and Neyshabur, arXiv 2012.03107, ICLR 2021), and the
curriculum as a warm-up before random order of Beyond Random Sampling (Zhang et al., arXiv 2506.11300, EACL 2026). There
a row may be drawn again; here each is drawn once.
"""

import math
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from data_common.calls.config import Seed
from data_common.messages.errors import UserError
from data_ordering.patterns import ranked

ABOUT = {
    "family": "by one score",
    "needs": "a score",
    "cost": "copying the file",
    "formula": "paper",
}

Share = Annotated[float, Meta(ge=0, le=1)]
SHAPES = {  # progress 0..1 -> growth 0..1 of the share that may be drawn
    "linear": lambda progress: progress,
    "root": np.sqrt,
    "exponential": lambda progress: np.expm1(10 * progress) / np.expm1(10),
    "step": np.floor,
}
MILLIONTH = 1e-6  # of a row, beyond which products of decimals are not told apart


def order(
    score: np.ndarray,
    *,
    pace: Literal["linear", "root", "exponential", "step"] = "linear",
    start_share: Share = 0.1,
    paced_share: Share = 1.0,
    ascending: bool = True,
    seed: Seed = 0,
) -> np.ndarray:
    """The permutation whose row at position k is drawn from the rows that are available then. score: (n,), raw.

    Position k is at t = k / n of the training. The first c(t) n of the sorted rows, rounded up, are available; of those
    that no earlier position has, one is drawn, each equally likely. With the progress u = min(t / paced_share, 1)

        c(t) = start_share + (1 - start_share) g(u),
        g(u) = u (linear), sqrt(u) (root), (exp(10 u) - 1) / (exp(10) - 1) (exponential), floor(u) (step),

    so that c(0) = start_share, and c(t) = 1 from paced_share on: what is left follows in random order. A paced_share of
    0.1 to 0.25 is the curriculum as a warm-up. Linear with start_share=0 is `sorting`, paced_share=0 is `shuffle`.

    Args:
        pace: shape of the growth of c
        start_share: share of the rows, those of the lowest scores, that is available at the beginning
        paced_share: share of the training after which all rows are available
        ascending: the lowest raw scores are available first, else the highest
        seed: of the random generator; the same seed gives the same order

    Raises: UserError where c(t) < t for some t: all that is available would be used before more is.
    """
    if paced_share:
        _check(pace, start_share, paced_share)
    n, generator = len(score), np.random.default_rng(seed)
    rows = ranked(score, ascending)
    paced = math.ceil(n * paced_share - MILLIONTH)
    position = np.arange(paced)
    share = available_share(position / max(n, 1), pace, start_share, paced_share)
    available = np.maximum(np.ceil(n * share - MILLIONTH).astype(np.int64), position + 1)
    drawn = generator.integers(position, available).tolist()
    for place, other in enumerate(drawn):  # rows[place:available] are available and not used
        rows[place], rows[other] = rows[other], rows[place]
    return np.append(rows[:paced], generator.permutation(rows[paced:]))


def available_share(t: np.ndarray, pace: str, start_share: float, paced_share: float) -> np.ndarray:
    """c(t), as `order` defines it, of shares t of the training. (m,) -> (m,)."""
    progress = np.minimum(t / paced_share, 1) if paced_share else np.ones_like(t)
    return start_share + (1 - start_share) * SHAPES[pace](progress)


def _check(pace: str, start_share: float, paced_share: float) -> None:
    """Raises UserError where c(t) < t somewhere; start_share + (1 - start_share) g >= t is solved for start_share."""
    t = np.append(np.linspace(0, paced_share, 1000, endpoint=False), paced_share * (1 - 1e-6))
    growth = available_share(t, pace, 0, paced_share)
    least = float(np.max((t - growth) / (1 - growth)))
    if start_share < least - 1e-9:
        enough = math.ceil(1000 * least) / 1000
        raise UserError(
            f"pace={pace} runs out of rows: with paced_share={paced_share:g} set start_share to {enough:g} or more; "
            f"or set paced_share to start_share or less"
        )
