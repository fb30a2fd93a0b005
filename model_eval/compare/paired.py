"""Differences between two arms on the same items, with confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_eval.bootstrap import interval, resampled_sums
from model_eval.compare.outcomes import Comparison, Outcome, shared_accuracies

AVERAGE = "average"  # of the tasks that all arms have, in tables beside their names


@dataclass(frozen=True)
class Difference:
    """An arm minus the baseline, and the interval in which the difference lies with a confidence."""

    value: float
    low: float
    high: float

    def is_noise(self) -> bool:
        """Whether the interval holds zero."""
        return self.low <= 0 <= self.high


def differences(
    comparison: Comparison, baseline: str, arm: str, iterations: int, confidence: float, seed: int
) -> dict[str, Difference]:
    """Task -> difference, where the items of all outcomes are stored; and of the average, where they are of all tasks.

    Items are drawn with replacement, the same ones for both arms. Of an arm with several seeds these are drawn as well,
    the same seeds for all tasks.
    """
    generator = np.random.default_rng(seed)
    drawn_seeds: dict[tuple[str, int], np.ndarray] = {}
    moved, found = {}, {}
    for task, arms in comparison.items():
        pair = [arms.get(name, []) for name in (arm, baseline)]
        if not all(pair) or any(outcome.items is None for outcomes in pair for outcome in outcomes):
            continue
        ratios = resampled_values([*pair[0], *pair[1]], iterations, generator)
        means = []
        for name, values in zip((arm, baseline), np.split(ratios, [len(pair[0])], axis=1), strict=True):
            count = values.shape[1]
            if (name, count) not in drawn_seeds:
                drawn_seeds[name, count] = generator.integers(count, size=(iterations, count))
            means.append(np.take_along_axis(values, drawn_seeds[name, count], axis=1).mean(axis=1))
        value = mean_value(pair[0]) - mean_value(pair[1])
        moved[task] = (value, means[0] - means[1])
        found[task] = Difference(value, *interval(moved[task][1], confidence))
    shared = shared_accuracies(comparison)
    if len(shared) > 1 and all(task in moved for task in shared):
        values, draws = zip(*(moved[task] for task in shared), strict=True)
        found[AVERAGE] = Difference(float(np.mean(values)), *interval(np.mean(draws, axis=0), confidence))
    return found


def resampled_values(outcomes: Sequence[Outcome], iterations: int, generator: np.random.Generator) -> np.ndarray:
    """The value of each outcome on items drawn with replacement, the same for all, (iterations, outcomes)."""
    columns = [outcome.items[part] for part in ("numerator", "denominator") for outcome in outcomes]
    sums = resampled_sums(np.column_stack(columns), iterations, generator)
    return sums[:, : len(outcomes)] / sums[:, len(outcomes) :]


def mean_value(outcomes: Sequence[Outcome]) -> float:
    """Mean over the seeds of an arm."""
    return float(np.mean([outcome.result["value"] for outcome in outcomes]))
