"""What is compared: the outcome of a model on a task, and all outcomes by task and arm."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_eval.accuracy import ACCURACIES

METHOD = ("scoring", "selection", "ordering")  # how the data of a model was made
RATIO = "selection_ratio"


@dataclass(frozen=True)
class Outcome:
    """One model on one task."""

    path: str  # of RESULT.yaml
    arm: str
    model: str  # where it was, of several spellings the first
    content: Mapping[str, Any]  # of RESULT.yaml
    task: str
    result: Mapping[str, Any]  # of the task
    items: np.ndarray | None  # its items, of items.KIND; None where they are not stored, or do not fit the result


Comparison = dict[str, dict[str, list[Outcome]]]  # task -> arm -> outcomes, one a seed


def arm_names(comparison: Comparison) -> list[str]:
    """All arms, in the order of the results."""
    return list(dict.fromkeys(arm for arms in comparison.values() for arm in arms))


def method_of(outcome: Outcome) -> str:
    """How the data of a model was made, in words: the names of methods; the arm where no manifest told them."""
    return " + ".join(outcome.content[stage] for stage in METHOD if outcome.content.get(stage)) or outcome.arm


def shared_accuracies(comparison: Comparison) -> list[str]:
    """The tasks with an accuracy that every arm has: those that an average is over."""
    count = len(arm_names(comparison))
    return [
        task
        for task, arms in comparison.items()
        if len(arms) == count and next(iter(arms.values()))[0].result["metric"] in ACCURACIES
    ]
