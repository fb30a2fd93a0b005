"""The comparison as a Markdown table for people and as a CSV file for programs."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_common.files.atomic import atomic_file
from data_common.messages.visible import in_table, visible
from model_eval.accuracy import higher_is_better, in_words
from model_eval.compare.outcomes import Comparison, Outcome, arm_names, shared_accuracies
from model_eval.compare.paired import AVERAGE, Difference

COLUMNS = "task metric arm value stderr sd seeds n baseline difference low high"  # of the CSV file
Differences = Mapping[str, Mapping[str, Difference]]  # arm -> task -> difference to the baseline


@dataclass(frozen=True)
class Cell:
    """An arm on a task: mean over seeds, their standard deviation, or for one seed the standard error over items."""

    value: float
    stderr: float | None
    deviation: float | None
    seeds: int

    def text(self) -> str:
        """Like `0.2510 ± 0.0031`, or `0.2510 (sd 0.0040, 3 seeds)`."""
        if self.deviation is not None:
            return f"{self.value:.4f} (sd {self.deviation:.4f}, {self.seeds} seeds)"
        return f"{self.value:.4f}" + ("" if self.stderr is None else f" ± {self.stderr:.4f}")


def cell(values: Sequence[float], stderrs: Sequence[float | None]) -> Cell:
    """The cell of some seeds."""
    several = len(values) > 1
    deviation = float(np.std(values, ddof=1)) if several else None
    return Cell(float(np.mean(values)), None if several else stderrs[0], deviation, len(values))


def average_cell(comparison: Comparison, arm: str) -> Cell | None:
    """The average accuracy of an arm over the tasks that all arms have; None where it has not one model on them all."""
    shared = shared_accuracies(comparison)
    by_model: dict[str, list[Outcome]] = {}
    for task in shared:
        for outcome in comparison[task][arm]:
            by_model.setdefault(outcome.model, []).append(outcome)
    whole = [outcomes for outcomes in by_model.values() if len(outcomes) == len(shared)]
    if not shared or not whole:
        return None
    stderrs = [[outcome.result["stderr"] for outcome in outcomes] for outcomes in whole]
    joined = [None if None in parts else math.hypot(*parts) / len(parts) for parts in stderrs]
    return cell([float(np.mean([outcome.result["value"] for outcome in outcomes])) for outcomes in whole], joined)


def cells(comparison: Comparison) -> dict[str, dict[str, Cell]]:
    """Task -> arm -> cell; last the average, where there are several tasks to average over."""
    found = {
        task: {
            arm: cell([seed.result["value"] for seed in seeds], [seed.result["stderr"] for seed in seeds])
            for arm, seeds in arms.items()
        }
        for task, arms in comparison.items()
    }
    averages = {arm: average_cell(comparison, arm) for arm in arm_names(comparison)}
    if len(shared_accuracies(comparison)) > 1 and all(averages.values()):
        found[AVERAGE] = averages
    return found


def markdown(comparison: Comparison, differences: Differences, baseline: str, confidence: float) -> str:
    """Tasks by arms, the best in bold; then the differences to the baseline."""
    arms = arm_names(comparison)
    lines = [f"| task | metric | {' | '.join(map(in_table, arms))} |", "|---|---|" + "---:|" * len(arms)]
    for task, found in cells(comparison).items():
        metric, higher = metric_of(comparison, task)
        values = {one.value for one in found.values()}
        best = None if higher is None or len(values) == 1 else (max if higher else min)(values)
        texts = [_bold(found[arm].text(), found[arm].value == best) if arm in found else "" for arm in arms]
        lines.append(f"| {in_table(task)} | {in_table(in_words(metric, higher))} | {' | '.join(texts)} |")
    lines += ["", "±: standard error over items; sd: standard deviation over seeds."]
    for arm, found in differences.items():
        common = [task for task, both in comparison.items() if {arm, baseline} <= both.keys()]
        if not common:
            lines += ["", visible(f"{arm} and {baseline} have no task in common.")]
            continue
        share = f"{confidence:.0%}"
        lines += [
            "",
            visible(f"{arm} - {baseline}:"),
            "",
            f"| task | difference | {share} interval | |",
            "|---|---:|---:|---|",
        ]
        for task, one in found.items():
            told = verdict(comparison, task, one)
            lines.append(f"| {in_table(task)} | {one.value:+.4f} | {one.low:+.4f} to {one.high:+.4f} | {told} |")
        unpaired = [task for task in common if task not in found]
        if unpaired:
            lines += ["", visible(f"No items are stored of both for {', '.join(unpaired)}: no paired difference.")]
    return "\n".join(lines) + "\n"


def write_csv(path: Path, comparison: Comparison, differences: Differences, baseline: str) -> None:
    """A line a task and arm. Raises: UserError where `path` cannot be written."""
    with atomic_file(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS.split())
        for task, found in cells(comparison).items():
            for arm, one in found.items():
                difference = differences.get(arm, {}).get(task)
                numbers = [difference.value, difference.low, difference.high] if difference else [None] * 3
                count = comparison[task][arm][0].result["n"] if task in comparison else None
                names = map(visible, (task, metric_of(comparison, task)[0], arm))
                row = [*names, one.value, one.stderr, one.deviation, one.seeds, count]
                writer.writerow([*row, visible(baseline) if difference else None, *numbers])


def metric_of(comparison: Comparison, task: str) -> tuple[str, bool | None]:
    """Name of the metric, and whether higher is better; None = unknown."""
    if task == AVERAGE:
        return f"mean of {len(shared_accuracies(comparison))} accuracies", True
    outcome = next(iter(comparison[task].values()))[0]
    return outcome.result["metric"], higher_is_better(outcome.result)


def _bold(text: str, is_best: bool) -> str:
    return f"**{text}**" if is_best else text


def verdict(comparison: Comparison, task: str, difference: Difference) -> str:
    """What a difference on a task says."""
    if difference.is_noise():
        return "noise"
    higher = metric_of(comparison, task)[1]
    if higher is None:
        return "different"
    return "better" if (difference.value > 0) == higher else "worse"
