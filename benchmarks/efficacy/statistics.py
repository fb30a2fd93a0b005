"""Differences between arms with their intervals: least squares on the effects of arm and warm start.

Warm starts are the blocks of a randomised block design. An arm does not gain the same from each start, so that runs
from one start are no independent witnesses: their mean counts as one. The noise is what is left: how the effect of an
arm differs between starts, and how its runs from one start differ.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Run(NamedTuple):
    """One measurement of one cell."""

    arm: str
    start: int
    value: float


class Difference(NamedTuple):
    """The first arm minus the second."""

    value: float
    margin: float  # half of the confidence interval
    p: float  # two-sided, of no difference
    runs: tuple[int, int]

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return abs(self.value) > self.margin


class Fit:
    """mean of the runs of an arm from a start = arm + start + noise, with one standard deviation of the noise."""

    def __init__(self, runs: Sequence[Run]):
        self.runs = Counter(run.arm for run in runs)  # arm -> how many
        self.arms, self.starts = sorted(self.runs), sorted({run.start for run in runs})
        cells = by_cell(runs)
        design = np.array([self._row(arm, [start]) for arm, start in cells])
        values = np.array([np.mean(cell) for cell in cells.values()])
        self._inverse = np.linalg.pinv(design.T @ design)
        self._effects = self._inverse @ design.T @ values
        self._seen = self._inverse @ design.T @ design  # projects on what the runs determine
        self.freedom = len(values) - int(np.linalg.matrix_rank(design))  # degrees of freedom
        squares = float(((values - design @ self._effects) ** 2).sum())
        self.deviation = (squares / self.freedom) ** 0.5 if self.freedom else float("nan")

    def difference(self, first: str, second: str) -> Difference | None:
        """None where the runs do not determine it: an arm has not run, or no start connects the two."""
        if not {first, second} <= self.runs.keys():
            return None
        value, error = self._estimate(self._row(first, self.starts) - self._row(second, self.starts))
        if np.isnan(value):
            return None
        p = 2 * float(stats.t.sf(abs(value) / (error or np.nan), self.freedom))
        return Difference(value, self._reach(error), p, (self.runs[first], self.runs[second]))

    def level(self, arm: str) -> tuple[float, float]:
        """An arm's mean over all starts, as if it had run from each, and half of its interval for these starts."""
        value, error = self._estimate(self._row(arm, self.starts))
        return value, self._reach(error)

    def _row(self, arm: str, starts: Sequence[int]) -> np.ndarray:
        """1 for the arm, and the mean over some starts."""
        starts_of = [(one in starts) / len(starts) for one in self.starts]
        return np.array([one == arm for one in self.arms] + starts_of, float)

    def _estimate(self, weights: np.ndarray) -> tuple[float, float]:
        """-> a combination of effects, and its standard error; nan where the runs do not determine it."""
        if not np.allclose(self._seen @ weights, weights):
            return float("nan"), float("nan")
        return float(weights @ self._effects), self.deviation * float(weights @ self._inverse @ weights) ** 0.5

    def _reach(self, error: float) -> float:
        return float(stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom)) * error


def by_cell(runs: Sequence[Run]) -> dict[tuple[str, int], list[float]]:
    """(arm, start) -> the values of its runs."""
    cells = defaultdict(list)
    for run in runs:
        cells[run.arm, run.start].append(run.value)
    return cells


class LackOfFit(NamedTuple):
    """What differs between starts in the effects of arms, beside what differs between runs of an arm from one start."""

    ratio: float  # of the mean squares: F
    freedom: tuple[int, int]
    p: float  # of effects that are the same from every start


def lack_of_fit(runs: Sequence[Run]) -> LackOfFit:
    """The F test of arm + start against a mean for each arm and start; nan where no arm's runs from a start differ."""
    cells = by_cell(runs)
    arms, starts = map(set, zip(*cells, strict=True))
    design = np.array([[run.arm == arm for arm in arms] + [run.start == start for start in starts] for run in runs])
    values = np.array([run.value for run in runs])
    left = values - design @ np.linalg.lstsq(design.astype(float), values, rcond=None)[0]
    within = sum(((np.array(cell) - np.mean(cell)) ** 2).sum() for cell in cells.values())
    freedom = (len(cells) - int(np.linalg.matrix_rank(design)), len(runs) - len(cells))
    if not (all(freedom) and within):
        return LackOfFit(float("nan"), freedom, float("nan"))
    ratio = float(((left**2).sum() - within) / freedom[0] / (within / freedom[1]))
    return LackOfFit(ratio, freedom, float(stats.f.sf(ratio, *freedom)))


def holm(values: Sequence[float]) -> list[bool]:
    """Which of several p-values are below 1 - CONFIDENCE by Holm's step-down procedure, all together."""
    passed, order = [False] * len(values), np.argsort(values)
    for rank, place in enumerate(order):
        if not values[place] * (len(values) - rank) < 1 - CONFIDENCE:
            break
        passed[place] = True
    return passed


def area(curve: Sequence[Sequence[float]]) -> float:
    """Mean height of a curve of (place, height) points, by the trapezoid rule."""
    places, heights = np.array(curve, float).T
    return float(np.trapezoid(heights, places) / (places[-1] - places[0]))
