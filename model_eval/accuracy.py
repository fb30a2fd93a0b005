"""What counts as an accuracy, for choosing a task's metric and for the average over tasks; which values are better."""

from collections.abc import Iterable, Mapping
from typing import Any

# The first that a task has is its metric; all from 0 to 1. (lm-eval calls the pass@1 of mbpp pass_at_1.)
ACCURACIES = ("acc_norm", "acc", "exact_match", "pass@1", "pass_at_1")
STRICT = "strict-match"  # of the filters that read an answer from a text, the one that is counted


def main_metric(metrics: Iterable[str]) -> str:
    """Of keys like `acc,none` (metric and filter) the first accuracy in the order of ACCURACIES, else the first key."""
    metrics = list(metrics)
    names = [key.split(",")[0] for key in metrics]
    chosen = next((accuracy for accuracy in ACCURACIES if accuracy in names), names[0])
    of_metric = [key for key, name in zip(metrics, names, strict=True) if name == chosen]
    return next((key for key in of_metric if key.endswith(f",{STRICT}")), of_metric[0])


def higher_is_better(result: Mapping[str, Any]) -> bool | None:
    """Whether a higher value of a task's metric is better; None where nobody says so."""
    return result.get("higher_is_better", True if result["metric"] in ACCURACIES else None)


def in_words(metric: str, higher: bool | None) -> str:
    """Name of a metric, and which values are better."""
    return metric + {True: " (higher is better)", False: " (lower is better)", None: ""}[higher]


def averages(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, float | int | None]:
    """Mean accuracies, 0 to 1: `summary_average` counts each task the same, `summary_average_by_item` each item.

    None where no task has an accuracy. averaged_tasks: how many have.
    """
    found = [result for result in tasks.values() if result["metric"] in ACCURACIES]
    n = sum(result["n"] for result in found)
    return {
        "summary_average": sum(result["value"] for result in found) / len(found) if found else None,
        "summary_average_by_item": sum(result["value"] * result["n"] for result in found) / n if n else None,
        "averaged_tasks": len(found),
    }
