"""The numbers of groups, as lm-eval makes them of those of their tasks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.config.group import GroupConfig

from model_eval.accuracy import main_metric
from model_eval.evaluation import folder_of
from model_eval.lm_evaluation_harness.groups import LocalGroup
from model_eval.lm_evaluation_harness.harness import RAW, Loaded
from model_eval.lm_evaluation_harness.harness_log import warnings_of_lm_eval


def complete_groups(described: Mapping[str, LocalGroup], loaded: Loaded, problems: dict[str, str]) -> dict[str, Group]:
    """The groups of lm-eval and of task files by name; that a task of one is missing is noted as a problem of it."""
    groups = dict(loaded.groups)

    def build(name: str) -> Group | Task | None:
        if name not in described or name in groups:
            return groups.get(name) or loaded.tasks.get(name)
        local = described[name]
        group = Group.from_config(GroupConfig(group=name, aggregate_metric_list=list(map(dict, local.metrics)) or None))
        for member, child in ((member, build(member)) for member in local.members):
            if child is None:
                problems.setdefault(name, f"its member {member} is missing")
            else:
                group.add(child)
        groups[name] = group
        return group

    for name in described:
        build(name)
    for name, group in groups.items():
        if missing := [task.task_name for task in group.get_all_tasks() if task.task_name not in loaded.tasks]:
            problems.setdefault(name, f"its task {missing[0]} is missing")
    return {name: group for name, group in groups.items() if name not in problems}


def group_results(groups: Mapping[str, Group], results: Mapping[str, Any], work: Path) -> dict[str, dict[str, Any]]:
    """Of each group with an `aggregate_metric_list`: metric, value, stderr, n, metrics, tasks, weighting, notes.

    results: of the tasks. work: the folder with a folder of each, where its raw output lies.
    """
    found = {}
    for name, group in groups.items():
        tasks = [task.task_name for task in group.get_all_tasks()]
        raw = {task: json.loads((work / folder_of(task) / RAW).read_text("utf-8")) for task in tasks}
        with warnings_of_lm_eval() as told:
            made = group.aggregate({task: one["results"][task] for task, one in raw.items()})
        metrics = {key: float(value) for key, value in made.items() if "," in key and "_stderr," not in key}
        if not metrics:
            continue
        main = main_metric(metrics)
        metric, answer_filter = main.split(",", 1)
        stderr = made.get(f"{metric}_stderr,{answer_filter}", "N/A")
        by_size = next(one.weight_by_size for one in group.aggregate_metric_list if one.metric == metric)
        found[name] = {
            "metric": metric,
            "higher_is_better": results[tasks[0]].get("higher_is_better"),
            "value": metrics[main],
            "stderr": None if stderr == "N/A" else float(stderr),
            "n": sum(results[task]["n"] for task in tasks if main in results[task]["metrics"]),
            "filter": answer_filter,
            "metrics": metrics,
            "tasks": tasks,
            "weighted": "by item" if by_size else "by task",
        } | ({"notes": told} if told else {})
    return found
