"""Results read from RESULT.yaml files, grouped into arms, and refused where they cannot be compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_common.files.fingerprint import fingerprint, same_content
from data_common.files.manifest import read_manifest
from data_common.messages.visible import visible
from model_eval.compare.arms import name_arms, same_run
from model_eval.compare.outcomes import Comparison, Outcome
from model_eval.compare.settings import check_comparable
from model_eval.evaluation import folder_of, load_result, traces
from model_eval.items import digest, load_items, value_of
from model_eval.provenance import made_by


def read_results(paths: Sequence[str]) -> Comparison:
    """The outcomes of all results. Raises: UserError for a file that is no result, and for what cannot be compared."""
    contents = {path: _read(path) for path in dict.fromkeys(paths)}
    models, arms = name_arms(contents)
    comparison: Comparison = {}
    again: dict[str, str] = {}
    for path, content in contents.items():
        for outcome in _outcomes(path, content, arms[path], models[path]):
            seeds = comparison.setdefault(outcome.task, {}).setdefault(outcome.arm, [])
            if twin := next((other for other in seeds if same_run(other, outcome)), None):
                again[path] = f"{path} is of the same model as {twin.path}, and is not counted twice"
            else:
                seeds.append(outcome)
    for note in again.values():
        print(f"note: {visible(note)}")
    for found in comparison.values():
        outcomes = [outcome for seeds in found.values() for outcome in seeds]
        for outcome in outcomes[1:]:
            check_comparable(outcomes[0], outcome)
        for seeds in found.values():
            seeds.sort(key=lambda outcome: outcome.model)
    return comparison


def _read(path: str) -> dict[str, Any]:
    """The content of a result; where an older one does not tell of its model, its manifest and that of the model do."""
    content = load_result(path)
    if "model_content" in content:
        return content
    recorded = (read_manifest(path) or {}).get("inputs", {}).get("model", {})
    known = {"model_content": recorded.get("xxh3") or recorded.get("id")} if recorded else {}
    current = fingerprint(content["model"]) if recorded.get("xxh3") else {}
    if current and same_content(recorded, current):
        known["made_by"] = made_by(content["model"])
    return content | known


def _outcomes(path: str, content: Mapping[str, Any], arm: str, model: str) -> list[Outcome]:
    return [
        Outcome(path, arm, model, content, task, result, _items(path, task, result))
        for task, result in content["tasks"].items()
    ]


def _items(path: str, task: str, result: Mapping[str, Any]) -> np.ndarray | None:
    items = load_items(traces(path) / folder_of(task))
    fits = items is not None and len(items) and digest(items) == result.get("items")
    return items if fits and np.isclose(value_of(items), result["value"], rtol=1e-6) else None
