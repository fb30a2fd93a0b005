"""The calls into lm-eval: load tasks, run one, save what it says, and read the result from that."""

import contextlib
import difflib
import functools
import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import numpy as np
import torch
import yaml
from lm_eval.api import model as lm_eval_model
from lm_eval.api import task as lm_eval_task
from lm_eval.api.group import Group
from lm_eval.api.registry import METRIC_REGISTRY
from lm_eval.api.task import Task
from lm_eval.models import huggingface
from lm_eval.tasks import TaskManager

from data_common.calls.progress import Progress
from data_common.files.atomic import write_text
from data_common.messages.errors import UserError
from data_common.messages.redaction import redact
from data_common.parallel import distributed
from data_common.rows.shards import open_output
from model_eval.accuracy import ACCURACIES, main_metric
from model_eval.items import digest, items_of, save_items
from model_eval.lm_evaluation_harness import fewshot, targets
from model_eval.lm_evaluation_harness.chat import Chat
from model_eval.lm_evaluation_harness.code_metric import guard_metrics
from model_eval.lm_evaluation_harness.harness_log import warnings_of_lm_eval
from model_eval.lm_evaluation_harness.language_model import LanguageModel
from model_eval.lm_evaluation_harness.preflight import CODE, TWICE
from model_eval.lm_evaluation_harness.stock_tasks import SPECIFICATIONS
from model_eval.lm_evaluation_harness.templates import use_sandbox

datasets.utils.logging.set_verbosity_error()
datasets.disable_progress_bars()
for module in (lm_eval_model, lm_eval_task, huggingface):
    module.tqdm = Progress
use_sandbox()
os.environ.setdefault("DISABLE_MULTIPROC", "1")  # bootstrap in this process: a fork after torch has threads may hang

METRICS = METRIC_REGISTRY  # by name, of all metrics that come with lm-eval
RAW, SAMPLES = "lm_eval.json", "samples.jsonl.zst"  # in the folder of a task: all that lm-eval returned


@dataclass(frozen=True)
class Settings:
    """How every task is run."""

    chat: Chat
    num_fewshot: int | None
    limit: int | None
    bootstrap_iterations: int
    allow_code_execution: bool
    seed: int


@dataclass
class Loaded:
    """What lm-eval has made of the tasks of a call."""

    tasks: dict[str, Task] = field(default_factory=dict)  # leaf tasks by name, with their data
    groups: dict[str, Group] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)  # leaf task -> what lm-eval warned of


def load_tasks(
    contents: Mapping[str, dict], others: list[str], folder: Path, settings: Settings, problems: dict[str, str]
) -> Loaded:
    """What cannot be loaded is noted in `problems`.

    contents: task -> content of its YAML. others: tasks, groups or tags of lm-eval's own list. folder: for the YAMLs.
    """
    guard_metrics(settings.allow_code_execution)
    loaded = Loaded()
    if contents:
        specifications = folder / "tasks"
        specifications.mkdir()
        for number, content in enumerate(contents.values()):
            text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)  # choices may be a mapping
            (specifications / f"{number}.yaml").write_text(text, encoding="utf-8")
        manager = TaskManager(include_path=str(specifications), include_defaults=False)
        for name in contents:
            _load(manager, name, settings, loaded, problems)
    note_unknown(others, problems)
    for name in others:
        if name not in problems:
            _load(own_tasks(), name, settings, loaded, problems)
    loaded.tasks = {name: task for name, task in loaded.tasks.items() if name not in problems}
    return loaded


@functools.cache
def own_tasks() -> TaskManager:
    """The tasks, groups and tags that come with lm-eval."""
    print("reading the list of lm-eval's own tasks (about 10 s)")
    return TaskManager()


def note_unknown(names: Sequence[str], problems: dict[str, str]) -> None:
    """Note as problems the names that are not among lm-eval's own."""
    for name in names:
        known = own_tasks().all_tasks
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "lm-eval has none, and there is no such path"
            problems[name] = f"unknown task; {hint}"


def _load(manager: TaskManager, name: str, settings: Settings, loaded: Loaded, problems: dict[str, str]) -> None:
    try:
        set_seeds(settings.seed)  # some tasks shuffle their choices while they are loaded
        with warnings_of_lm_eval() as told:
            made = manager.load([name])
            counts = {leaf: len(task.eval_docs) for leaf, task in made["tasks"].items()}
            answers = {leaf: targets.notes_of(task, settings.limit) for leaf, task in made["tasks"].items()}
    except UserError as error:
        problems[name] = str(error)
        return
    except Exception as error:  # whatever task files, their code, their data and the hub may raise
        local = "; data_dir=FOLDER reads it from files" if name in SPECIFICATIONS else ""
        problems[name] = f"cannot be loaded: {_reason(error)}{local}"
        return
    for leaf, task in made["tasks"].items():
        if leaf in loaded.tasks:
            problems[leaf] = TWICE
        if not counts[leaf]:
            problems[leaf] = "its split holds no rows"
        elif getattr(task, "UNSAFE_CODE", False) and not settings.allow_code_execution:
            problems[leaf] = CODE
        elif (problem := fewshot.problem_of(task, settings.num_fewshot)) or (problem := answers[leaf][1]):
            problems[leaf] = problem
        loaded.notes[leaf] = [*answers[leaf][0], *told, *fewshot.notes_of(task, settings.num_fewshot)]
    loaded.tasks |= made["tasks"]
    loaded.groups |= made.get("groups", {})


def _reason(error: BaseException) -> str:
    """The innermost cause in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {redact(' '.join(str(error).split()))[:300]}"


def run_task(model: LanguageModel, name: str, task: Task, settings: Settings, folder: Path) -> dict[str, Any]:
    """Evaluate one task; all that lm-eval returns is saved in `folder` before anything is read from it. -> result."""
    set_seeds(settings.seed)
    examples = fewshot.settle(task, settings.num_fewshot, settings.seed)
    model.begin_task()
    with warnings_of_lm_eval() as told, refusals_of_lm_eval(name):
        # Not simple_evaluate, which asks the operating system and git about themselves for a second.
        raw = lm_eval.evaluate(
            model,
            {"tasks": {name: task}},
            limit=settings.limit,
            bootstrap_iters=settings.bootstrap_iterations,
            confirm_run_unsafe_code=settings.allow_code_execution,
            log_samples=True,
            **vars(settings.chat),
        )
    samples = raw.pop("samples")[name]
    if distributed.is_main():
        save_raw(folder, raw, samples)
    result = task_result(raw, name) | {"cut_prompts": len(model.cut)}
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        result["max_length"] = model.max_length  # of the windows, on which the number depends
    if examples and examples.exchanged:
        result["examples_exchanged"] = examples.exchanged
    if model.answer_tokens is not None:
        result["max_gen_toks"] = model.answer_tokens
    if task.OUTPUT_TYPE == "multiple_choice" and (count := all_equal(samples)):
        result["all_equal"] = count
    if result["metric"] in ACCURACIES:
        items = accuracy_items(samples, result["metric"], result["filter"])
        if distributed.is_main():
            save_items(folder, items)
        result["items"] = digest(items)
    notes = told + model.notes + doubts_about_blanks(samples)
    return result | ({"notes": notes} if notes else {})


@contextlib.contextmanager
def refusals_of_lm_eval(name: str) -> Iterator[None]:
    """Turn the assertions by which lm-eval refuses a task while it is asked into one line. Raises: UserError."""
    try:
        yield
    except AssertionError as error:
        raise UserError(f"{name}: lm-eval cannot ask it: {_reason(error)}") from None


def set_seeds(seed: int) -> None:
    """Of all generators that tasks and models draw from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def save_raw(folder: Path, raw: Mapping[str, Any], samples: list[dict]) -> None:
    """The output of lm-eval as it is, the samples in a file of their own."""

    def plain(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else str(value)

    write_text(folder / RAW, json.dumps(raw, indent=2, default=plain, ensure_ascii=False))
    with open_output(str(folder / SAMPLES)) as file:
        for sample in samples:
            file.write(json.dumps(sample, default=plain).encode() + b"\n")


def doubts_about_blanks(samples: list[dict]) -> list[str]:
    """Items whose prompt and answer meet with two blanks, which no text has between two words."""
    pairs = {one["doc_id"]: one["arguments"] for one in samples if all(len(pair) == 2 for pair in one["arguments"])}
    count = sum(any("  " in str(one)[-2:] + str(two)[:2] for one, two in found) for found in pairs.values())
    share = f"{count:,} of {len(pairs):,} items"
    return [f"prompt and answer of {share} meet with two blanks (doc_to_text, target_delimiter)"] if count else []


def all_equal(samples: list[dict]) -> int:
    """Items of several answers of which the model prefers none: all have the same log-likelihood."""
    values = {one["doc_id"]: [answer[0][0] for answer in one["resps"]] for one in samples}
    return sum(len(found) > 1 and len(set(found)) == 1 for found in values.values())


def accuracy_items(samples: list[dict], metric: str, answer_filter: str) -> np.ndarray:
    """The value of every item, in the order of the data; an item is known by all that the model was asked."""
    chosen = sorted((one for one in samples if one["filter"] == answer_filter), key=lambda one: one["doc_id"])
    identities = [json.dumps([one["arguments"], one["target"]], default=str) for one in chosen]
    return items_of(identities, np.array([float(one[metric]) for one in chosen]))


def task_result(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What lm-eval found on one task: its main metric, and all metrics as plain numbers."""
    numbers = {key: value for key, value in raw["results"][name].items() if "," in key}
    metrics = {key: float(value) for key, value in numbers.items() if "_stderr," not in key}
    main = main_metric(metrics)
    metric, answer_filter = main.split(",", 1)
    stderr = numbers.get(f"{metric}_stderr,{answer_filter}", "N/A")
    version = raw["versions"].get(name)
    return {
        "metric": metric,
        "higher_is_better": raw["higher_is_better"].get(name, {}).get(metric),
        "value": metrics[main],
        "stderr": None if stderr == "N/A" else float(stderr),
        "n": int(raw["n-samples"][name]["effective"]),
        "filter": answer_filter,
        "metrics": metrics,
        "num_fewshot": int(raw["n-shot"][name]),
        "version": None if version is None else str(version),
    }
