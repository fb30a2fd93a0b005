"""Differences between arms, from runs in blocks: a block is a warm start, and what differs within it is the noise."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Run(NamedTuple):
    """One measurement of one cell."""

    arm: str
    block: int
    value: float


class Noise(NamedTuple):
    """The standard deviation between runs of the same arm and block, pooled over all of them."""

    deviation: float
    freedom: int  # degrees of freedom

    def quantile(self) -> float:
        """How many standard errors a confidence interval reaches to either side."""
        return float(stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom))


class Difference(NamedTuple):
    """The first arm minus the second, averaged over the blocks that have both."""

    value: float
    margin: float  # half of the confidence interval
    runs: tuple[int, int]

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return abs(self.value) > self.margin


def by_block(runs: Sequence[Run]) -> Mapping[str, Mapping[int, np.ndarray]]:
    """Arm -> block -> values."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        found[run.arm][run.block].append(run.value)
    return {arm: {block: np.array(values) for block, values in blocks.items()} for arm, blocks in found.items()}


def pooled(runs: Sequence[Run]) -> Noise:
    """Root of the sum of squares about the mean of each arm and block, over its degrees of freedom.

    nan, with no degrees of freedom, where no arm ran twice in one block: nothing is clear then.
    """
    groups = [values for blocks in by_block(runs).values() for values in blocks.values()]
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in groups)
    return Noise((squares / freedom) ** 0.5 if freedom else float("nan"), freedom)


def difference(runs: Sequence[Run], first: str, second: str, noise: Noise) -> Difference | None:
    """The contrast of two arms with its interval; None where no block has both.

    Its standard error is deviation * sqrt(sum over blocks of 1/n_first + 1/n_second) / blocks.
    """
    arms = by_block(runs)
    one, other = arms.get(first, {}), arms.get(second, {})
    blocks = sorted(one.keys() & other.keys())
    if not blocks:
        return None
    values = [one[block].mean() - other[block].mean() for block in blocks]
    variance = sum(1 / len(one[block]) + 1 / len(other[block]) for block in blocks) / len(blocks) ** 2
    counts = tuple(sum(len(arm[block]) for block in blocks) for arm in (one, other))
    return Difference(float(np.mean(values)), noise.quantile() * noise.deviation * variance**0.5, counts)


def level(runs: Sequence[Run], arm: str, noise: Noise) -> tuple[float, float]:
    """Mean over blocks of one arm, and half of its interval for given warm starts. The arm must have run."""
    blocks = by_block(runs)[arm].values()
    variance = sum(1 / len(values) for values in blocks) / len(blocks) ** 2
    return float(np.mean([v.mean() for v in blocks])), noise.quantile() * noise.deviation * variance**0.5


def area(curve: Sequence[Sequence[float]]) -> float:
    """Mean height of a curve of (place, height) points, by the trapezoid rule."""
    places, heights = np.array(curve, float).T
    return float(np.trapezoid(heights, places) / (places[-1] - places[0]))
