"""Results read from RESULT.yaml files, grouped into arms, and refused where they cannot be compared."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from model_eval.accuracy import ACCURACIES
from model_eval.evaluation import load_result, traces
from model_eval.items import digest, load_items, value_of

SEED = re.compile(r"[-_.]seed[-_]?\d+$")  # at the end of a model's name: not part of the arm
SETTINGS = (
    "metric",
    "filter",
    "version",
    "num_fewshot",
    "limit",
    "n",
    "max_length",
    "max_gen_toks",
)  # equal, or not comparable
METHOD = ("scoring", "selection", "ordering")  # how the data of a model was made
RATIO = "selection_ratio"
SAME_RATIO = 0.005  # seeds may select from draws of slightly different size


@dataclass(frozen=True)
class Outcome:
    """One model on one task."""

    path: str  # of RESULT.yaml
    arm: str
    model: str
    content: Mapping[str, Any]  # of RESULT.yaml
    task: str
    result: Mapping[str, Any]  # of the task
    items: np.ndarray | None  # its items, of items.KIND; None where they are not stored, or do not fit the result


Comparison = dict[str, dict[str, list[Outcome]]]  # task -> arm -> outcomes, one a seed


def read_results(paths: Sequence[str]) -> Comparison:
    """The outcomes of all results. Raises: UserError for a file that is no result, and for what cannot be compared."""
    comparison: Comparison = {}
    for path in paths:
        for outcome in _read(path):
            seeds = comparison.setdefault(outcome.task, {}).setdefault(outcome.arm, [])
            for other in seeds:
                if other.model == outcome.model:
                    raise UserError(f"{other.path} and {path} are both of {outcome.task} and the model {outcome.model}")
                _check_same_arm(other, outcome)
            seeds.append(outcome)
    for arms in comparison.values():
        outcomes = [outcome for seeds in arms.values() for outcome in seeds]
        for outcome in outcomes[1:]:
            _check_comparable(outcomes[0], outcome)
        for seeds in arms.values():
            seeds.sort(key=lambda outcome: outcome.model)
    return comparison


def arm_name(content: Mapping[str, Any]) -> str:
    """The arm of a result: as it says, else the last part of the model's path without a seed at its end."""
    return str(content.get("arm") or SEED.sub("", Path(content["model"]).name))


def arm_names(comparison: Comparison) -> list[str]:
    """All arms, in the order of the results."""
    return list(dict.fromkeys(arm for arms in comparison.values() for arm in arms))


def method_of(content: Mapping[str, Any]) -> str:
    """How the data of a model was made, in words: the names of methods; the arm where no manifest told them."""
    return " + ".join(content[stage] for stage in METHOD if content.get(stage)) or arm_name(content)


def shared_accuracies(comparison: Comparison) -> list[str]:
    """The tasks with an accuracy that every arm has: those that an average is over."""
    count = len(arm_names(comparison))
    return [
        task
        for task, arms in comparison.items()
        if len(arms) == count and next(iter(arms.values()))[0].result["metric"] in ACCURACIES
    ]


def _read(path: str) -> list[Outcome]:
    content = load_result(path)
    arm, model = arm_name(content), str(content["model"])
    try:
        return [
            Outcome(path, arm, model, content, task, result, _items(path, task, result))
            for task, result in content["tasks"].items()
        ]
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is no result of model_eval") from None


def _items(path: str, task: str, result: Mapping[str, Any]) -> np.ndarray | None:
    items = load_items(traces(path) / task)
    fits = items is not None and len(items) and digest(items) == result.get("items")
    return items if fits and np.isclose(value_of(items), result["value"], rtol=1e-6) else None


def _check_same_arm(one: Outcome, other: Outcome) -> None:
    """Raises UserError where the data of two models were not made in one way, so that they are no seeds of one arm."""
    pairs = {stage: (one.content.get(stage), other.content.get(stage)) for stage in METHOD}
    different = [f"{stage} {mine} against {others}" for stage, (mine, others) in pairs.items() if mine != others]
    ratios = [outcome.content.get(RATIO) for outcome in (one, other)]
    if None not in ratios and abs(ratios[0] - ratios[1]) > SAME_RATIO:
        different.append(f"{RATIO} {ratios[0]:g} against {ratios[1]:g}")
    if different:
        raise UserError(
            f"{one.path} and {other.path} are both of the arm '{one.arm}', but not of one experiment: "
            f"{'; '.join(different)} (evaluate with arm=NAME, or name the models differently)"
        )


def _check_comparable(one: Outcome, other: Outcome) -> None:
    """Raises UserError with all differences that forbid a comparison."""
    pairs = {key: (one.result.get(key), other.result.get(key)) for key in SETTINGS}
    different = [f"{key} {mine} against {others}" for key, (mine, others) in pairs.items() if mine != others]
    digests = {one.result.get("items"), other.result.get("items")} - {None}
    if not different and len(digests) > 1:
        data = (one.result.get("data"), other.result.get("data"))
        different = [f"other items (data {data[0]} against {data[1]})" if any(data) else "other items"]
    if different:
        names = f"{one.path} and {other.path}"
        raise UserError(f"{names} cannot be compared on {one.task}: {'; '.join(different)}")
