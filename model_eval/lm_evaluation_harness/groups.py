"""Group files of lm-eval: tasks under one name, with one number that is made of theirs."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from model_eval.lm_evaluation_harness.task_files import LocalTask, Specification, read_specification, yaml_files

OF_GROUPS = ("group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag")  # all else is for the tasks


_say_once = functools.cache(print)  # a call reads its tasks several times


@dataclass(frozen=True)
class LocalGroup:
    """A group that a YAML of the user describes."""

    name: str
    path: Path
    members: tuple[str, ...]  # names of tasks and groups
    metrics: tuple[Mapping[str, Any], ...]  # its aggregate_metric_list


@dataclass
class Found:
    """What a place holds: tasks, groups, and the names that groups take from lm-eval's own list."""

    tasks: list[LocalTask] = field(default_factory=list)
    groups: dict[str, LocalGroup] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


def read_place(place: str) -> Found:
    """The tasks and groups of a YAML, or of a folder that holds such; the tasks of a group lie beside it, or below.

    A group in a folder that needs more than the tasks there is left out, with a note.
    Raises: UserError for a missing or broken file, for a folder without tasks, and for a group that cannot be had.
    """
    path, found = Path(place), Found()
    read = [read_specification(file) for file in yaml_files(path)]
    groups = {one.config["group"]: one for one in read if _is_group(one)}
    if groups and not path.is_dir():
        beside = [read_specification(file) for file in yaml_files(path.parent)]
        groups |= {one.config["group"]: one for one in beside if _is_group(one) and one.config["group"] not in groups}
        tasks, wanted = _tasks(beside), [read[0].config["group"]]
    else:
        tasks, wanted = _tasks(read), list(groups)
        found.tasks = list(tasks)
    if not (found.tasks or wanted):
        raise UserError(f"{place} holds no task YAML (with a line `task: name`)")
    for name in wanted:
        file, trial = groups[name].files[0], Found(list(found.tasks), dict(found.groups), list(found.names))
        try:
            _Resolver(trial, tasks, groups).group(name, groups[name].config, file, {}, ())
            if path.is_dir() and trial.names:
                raise UserError(f"{trial.names[0]} is not in {place}; tasks={file} evaluates it too")
        except UserError as error:
            if not path.is_dir():
                raise
            _say_once(f"note: no number of the group {visible(name)}: {error}")
        else:
            found = trial
    return found


def _is_group(one: Specification) -> bool:
    return isinstance(one.config.get("group"), str) and isinstance(one.config.get("task"), list)


def _tasks(read: Iterable[Specification]) -> list[LocalTask]:
    return [LocalTask(one.config["task"], one) for one in read if isinstance(one.config.get("task"), str)]


class _Resolver:
    """Finds the members of groups among the files of a place."""

    def __init__(self, found: Found, tasks: Sequence[LocalTask], groups: Mapping[str, Specification]):
        self.found, self.groups = found, groups
        self.tasks = {task.name: task for task in tasks}
        self.tags: dict[str, list[str]] = {}
        for task in tasks:
            tags = task.config.get("tag") or []
            for tag in [tags] if isinstance(tags, str) else tags:
                self.tags.setdefault(tag, []).append(task.name)

    def group(
        self, name: str, config: Mapping[str, Any], path: Path, changes: Mapping[str, Any], within: tuple[str, ...]
    ) -> None:
        """Note a group with all that is in it. changes: of the groups that it is in, to the settings of their tasks."""
        if name in within:
            raise UserError(f"{path}: the group {name} holds itself")
        if code := self.groups[name].code if name in self.groups else ():
            raise UserError(f"{code[0]}: code belongs into a task file, not into that of a group")
        changes = {key: value for key, value in config.items() if key not in OF_GROUPS} | changes
        members: list[str] = []
        for member in config["task"]:
            entry = {"task": member} if isinstance(member, str) else member
            if not isinstance(entry, dict) or not isinstance(entry.get("task") or entry.get("group"), str | list):
                raise UserError(f"{path}: the group {name} has a member that is neither a name nor `task: name`")
            members += self._member(name, dict(entry), path, changes, (*within, name))
        self.found.groups[name] = LocalGroup(name, path, tuple(members), _metrics(config, name, path))

    def _member(
        self, group: str, entry: dict[str, Any], path: Path, changes: Mapping[str, Any], within: tuple[str, ...]
    ) -> list[str]:
        """Names of what a member stands for: a task, a group, all tasks of a tag."""
        name = entry.pop("group", None) or entry.pop("task")
        if isinstance(entry.get("task"), list) and name not in self.groups:  # a group in a group, described there
            inner = f"{group}::{name}"
            self.group(inner, entry, path, changes, within)
            return [inner]
        changes = {**changes, **{key: value for key, value in entry.items() if key not in OF_GROUPS}}
        if "include" in changes:
            raise UserError(f"{path}: {name}: include belongs into a task file")
        if name in self.groups:
            self.group(name, self.groups[name].config, self.groups[name].files[0], changes, within)
            return [name]
        names = [name] if name in self.tasks else self.tags.get(name, [])
        for task in names:
            self._take(replace(self.tasks[task], changes=changes), group, path)
        if not names and changes:
            raise UserError(f"{path}: {name} is in no YAML beside the group, so that its settings cannot be changed")
        if not names:
            self.found.names.append(name)
        return names or [name]

    def _take(self, task: LocalTask, group: str, path: Path) -> None:
        """Among the tasks, once; raises UserError where two groups want it with different settings."""
        for number, other in enumerate(self.found.tasks):
            if other.name == task.name:
                if other.changes and other.changes != task.changes:
                    raise UserError(
                        f"{path}: another group wants the task {task.name} with other settings than {group}"
                    )
                self.found.tasks[number] = task
                return
        self.found.tasks.append(task)


def _metrics(config: Mapping[str, Any], name: str, path: Path) -> tuple[Mapping[str, Any], ...]:
    metrics = config.get("aggregate_metric_list") or []
    metrics = [metrics] if isinstance(metrics, dict) else metrics
    for one in metrics:
        if (
            not isinstance(one, dict)
            or not isinstance(one.get("metric"), str)
            or one.get("aggregation", "mean") != "mean"
        ):
            raise UserError(f"{path}: aggregate_metric_list of {name}: wanted `metric: name` and `aggregation: mean`")
    return tuple(metrics)
