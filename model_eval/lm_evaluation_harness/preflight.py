"""Which tasks a call means, where each comes from, and all that stands in its way, before any model is loaded."""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from data_common.files.manifest import fingerprint
from data_common.messages.errors import UserError
from model_eval.lm_evaluation_harness.groups import Found, LocalGroup, read_place
from model_eval.lm_evaluation_harness.stock_tasks import SPECIFICATIONS, StockTask
from model_eval.lm_evaluation_harness.task_files import LocalTask, split

Task = LocalTask | StockTask
CODE = "runs code that the model writes; allow_code_execution=true if you want that, on this machine"
TWICE = "wanted twice, from a file and from lm-eval: rename it in the file"


@dataclass
class Plan:
    """The tasks of a call."""

    tasks: dict[str, Task] = field(default_factory=dict)  # whose YAML is known
    others: list[str] = field(default_factory=list)  # names to look up in lm-eval's own list
    problems: dict[str, str] = field(default_factory=dict)  # task, or place of a task file -> why it cannot be had
    groups: dict[str, LocalGroup] = field(default_factory=dict)  # of task files, by name

    def left(self) -> list[str]:
        """The tasks without a problem."""
        return [name for name in (*self.tasks, *self.others) if name not in self.problems]

    def needs_hub(self) -> bool:
        """Whether the data of a task is on the hub."""
        stock = [task for task in self.tasks.values() if isinstance(task, StockTask)]
        return bool(self.others) or any(task.data_dir is None for task in stock)


def plan(wanted: str | Sequence[str], data_dir: str | None, num_fewshot: int | None) -> Plan:
    """wanted: names of tasks, task YAMLs, folders of such. Raises: UserError for no task, or a missing data_dir."""
    wanted = [name.strip() for name in wanted.split(",")] if isinstance(wanted, str) else list(wanted)
    if not any(wanted):
        raise UserError("tasks is empty: name at least one task, folder or task YAML")
    if data_dir is not None and not Path(data_dir).is_dir():
        raise UserError(f"data_dir {data_dir} is no folder")
    found, (places, names) = Plan(), split(wanted)
    for place in places:
        try:
            names += _add_place(found, read_place(place))
        except UserError as error:
            found.problems[place] = str(error)
    for name in dict.fromkeys(names):
        if name in found.tasks:
            found.problems[name] = TWICE
        elif name in SPECIFICATIONS:
            found.tasks[name] = StockTask(name, data_dir, num_fewshot)
        elif data_dir is not None:
            found.problems[name] = f"data_dir is for {', '.join(SPECIFICATIONS)}; for others write a task YAML"
        else:
            found.others.append(name)
    return found


def _add_place(plan: Plan, here: Found) -> list[str]:
    """Add the tasks and groups of a place; two of one name are a problem. -> names of lm-eval's own in its groups."""
    for task in here.tasks:
        other = plan.tasks.get(task.name)
        if other is not None and (other.path != task.path or other.changes != task.changes):
            plan.problems[task.name] = f"two task files have this name: {other.path} and {task.path}"
        plan.tasks[task.name] = task
    for group in here.groups.values():
        other = plan.groups.get(group.name)
        if group.name in plan.tasks or (other is not None and other != group):
            plan.problems[group.name] = f"{group.path}: another file has a task or group of this name"
        plan.groups[group.name] = group
    return here.names


def refuse_code(plan: Plan, allow_code_execution: bool) -> None:
    """Note as problems the tasks that execute what the model writes, or code that is not of lm-eval, unless allowed."""
    for name, task in plan.tasks.items() if not allow_code_execution else ():
        if task.specification.unsafe:
            plan.problems.setdefault(name, CODE)
        elif found := task.code():
            plan.problems.setdefault(name, _foreign(found))


def refuse_metrics(plan: Plan, contents: dict[str, dict], known: Container[str], allow_code_execution: bool) -> None:
    """Note the tasks whose metrics are code from elsewhere as problems, and take their contents away, unless allowed.

    known: names of the metrics that come with lm-eval.
    """
    for name in list(contents) if not allow_code_execution else ():
        if found := plan.tasks[name].foreign_metrics(known):
            plan.problems[name] = _foreign([f"the metric {metric}, which is not of lm-eval," for metric in found])
            del contents[name]


def _foreign(found: Sequence[str]) -> str:
    more = f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
    return f"{found[0]} runs Python code{more}; allow_code_execution=true if you trust it"


def look(plan: Plan) -> None:
    """Note as problems what `prepare` would for the first rows of local data; nothing is written."""
    for name, task in plan.tasks.items():
        if name not in plan.problems:
            try:
                task.look()
            except UserError as error:
                plan.problems[name] = str(error)


def check_literals(plan: Plan, loaded: dict[str, Any]) -> None:
    """Note as a problem, and take away, a task whose literal word is a column of some rows."""
    for name in list(loaded):
        for key, word in _literals(plan.tasks.get(name)).items():
            if name in loaded and word in loaded[name].features:
                plan.problems[name] = f"{key}: some rows have a column {word}, and some have not"
                del loaded[name]


def notes_of(task: Task | None) -> list[str]:
    """What was inferred of a task."""
    return [f"{key}: {word} is no column: it is the same for every item" for key, word in _literals(task).items()]


def _literals(task: Task | None) -> dict[str, str]:
    return task.literals if isinstance(task, LocalTask) else {}


def prepare(plan: Plan, folder: Path, allow_code_execution: bool = False) -> dict[str, dict]:
    """Task -> content of its task YAML, for those without a problem; data goes to `folder`, new problems are noted."""
    contents = {}
    for name, task in plan.tasks.items():
        if name not in plan.problems:
            try:
                contents[name] = task.prepare(folder, allow_code_execution)
            except UserError as error:
                plan.problems[name] = str(error)
    return contents


def settle_problems(problems: Mapping[str, str], on_missing_task: str, left: int) -> None:
    """All problems at once. left: number of tasks without one.

    Raises: UserError, unless they are to be skipped and a task is left.
    """
    if not problems:
        return
    lines = [reason if "/" in name and name in reason else f"{name}: {reason}" for name, reason in problems.items()]
    if on_missing_task == "skip" and left:
        print("\n".join(f"skipped: {line}" for line in lines))
    elif len(lines) == 1:
        raise UserError(lines[0])
    else:
        count = f"{len(lines)} of {len(lines) + left} tasks cannot be evaluated"
        raise UserError(f"{count} (on_missing_task=skip leaves them out):", *lines)


def identity(task: Task | None) -> dict[str, Any]:
    """What the result of a task depends on beside the model and the keys: its YAML, code and data."""
    if task is None:
        return {}
    digest = xxhash.xxh3_128_hexdigest(json.dumps(task.config, sort_keys=True, default=str).encode())
    return {"task": digest, "files": _contents([*task.code_files(), *task.data_files()])}


def origin(task: Task | None, loaded: Any) -> str | list[str]:
    """Where the data of a task comes from: files, or an id of the hub. loaded: the task as lm-eval has it."""
    files = task.data_files() if task is not None else []
    return files or str(loaded.get_config("dataset_path"))


def _contents(files: Sequence[str | Path]) -> list[str]:
    return [fingerprint(file)["xxh3"] for file in files]
