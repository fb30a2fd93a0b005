"""What counts as an accuracy, for choosing a task's metric and for the average over tasks."""

from collections.abc import Mapping
from typing import Any

ACCURACIES = ("acc_norm", "acc", "exact_match", "pass@1")  # the first that a task has is its metric; all from 0 to 1


def summary_average(tasks: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Mean accuracy of the tasks (each counts the same), 0 to 1; None where no task has an accuracy."""
    values = [result["value"] for result in tasks.values() if result["metric"] in ACCURACIES]
    return sum(values) / len(values) if values else None
