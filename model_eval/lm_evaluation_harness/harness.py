"""The calls into lm-eval: load tasks, wrap our model, run, and read its results."""

import difflib
import logging
import os
import random
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import numpy as np
import torch
from lm_eval.api.task import Task
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from common import models
from common.errors import UserError
from model_eval.accuracy import ACCURACIES
from model_eval.lm_evaluation_harness.task_files import LocalTask, write_absolute

logging.getLogger("lm_eval").setLevel(logging.ERROR)
datasets.utils.logging.set_verbosity_error()
datasets.disable_progress_bars()
os.environ.setdefault("DISABLE_MULTIPROC", "1")  # bootstrap in this process: a fork after torch has threads may hang


def load_tasks(local: Sequence[LocalTask], stock: Sequence[str], allow_code_execution: bool) -> dict[str, Task]:
    """The leaf tasks by name, with their data. stock: names of tasks, groups or tags that come with lm-eval.

    Raises: UserError that names the tasks that are unknown, cannot be had, or execute code unasked.
    """
    if allow_code_execution:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"  # the metric's own safety catch
    tasks: dict[str, Task] = {}
    if local:
        with tempfile.TemporaryDirectory() as folder:
            write_absolute(local, Path(folder))
            manager = TaskManager(include_path=folder, include_defaults=False)
            tasks |= _load(manager, [task.name for task in local])
    if stock:
        print("reading the list of lm-eval's own tasks (about 10 s)")
        tasks_of_hub = _load(TaskManager(), stock)
        if twice := sorted(set(tasks) & set(tasks_of_hub)):
            raise UserError(f"task {twice[0]} is wanted twice, from a file and from lm-eval: rename it in the file")
        tasks |= tasks_of_hub
    unsafe = [name for name, task in tasks.items() if getattr(task, "UNSAFE_CODE", False)]
    if unsafe and not allow_code_execution:
        names = ", ".join(unsafe)
        raise UserError(f"{names}: runs code that the model writes; allow_code_execution=true if you want that")
    return tasks


def load_language_model(
    path: str, device: str, dtype: models.Dtype, add_bos_token: bool, max_length: int | None, batch_size: int
) -> HFLM:
    """The model as lm-eval wants it. Raises: UserError where it cannot be loaded or has too few positions."""
    tokenizer = models.load_tokenizer(path)
    add_bos_token = add_bos_token and tokenizer.bos_token_id is not None
    if add_bos_token:
        start_with_bos(tokenizer, path)
    model = models.load_on_device(path, tokenizer, device, dtype)
    if max_length is not None:
        models.check_positions(model, max_length)
    return HFLM(
        pretrained=model,
        tokenizer=tokenizer,
        batch_size=batch_size,
        max_length=max_length,
        add_bos_token=add_bos_token,
    )


def start_with_bos(tokenizer, path: str) -> None:
    """Make `tokenizer(text)` BOS + text, nothing else: lm-eval only asks for whatever special tokens it adds.

    Raises: UserError where the tokenizer cannot be told so.
    """

    def starts_with_bos() -> bool:
        text = tokenizer("a", add_special_tokens=False)["input_ids"]
        return tokenizer("a")["input_ids"] == [tokenizer.bos_token_id, *text]

    if not starts_with_bos():
        tokenizer.add_bos_token, tokenizer.add_eos_token = True, False
    if not starts_with_bos():
        raise UserError(f"the tokenizer of {path} cannot be told to start texts with BOS: set add_bos_token=false")


def evaluate(
    language_model: HFLM,
    tasks: Mapping[str, Task],
    num_fewshot: int | None,
    limit: int | None,
    bootstrap_iterations: int,
    allow_code_execution: bool,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """The result of every task."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    for task in tasks.values():
        set_fewshot(task, num_fewshot, seed)
    # Not simple_evaluate, which asks the operating system and git about themselves for a second.
    raw = lm_eval.evaluate(
        language_model,
        {"tasks": dict(tasks)},
        limit=limit,
        bootstrap_iters=bootstrap_iterations,
        confirm_run_unsafe_code=allow_code_execution,
        log_samples=False,
    )
    return {name: task_result(raw, name) for name in tasks}


def set_fewshot(task: Task, num_fewshot: int | None, seed: int) -> None:
    """The rule of lm-eval: a number given wins over the task's own, unless that is 0; neither given means 0."""
    own = task.get_config("num_fewshot")
    if num_fewshot is not None and own != 0:
        task.set_config("num_fewshot", num_fewshot)
    elif own is None:
        task.set_config("num_fewshot", 0)
    task.set_fewshot_seed(seed)


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
        "value": metrics[main],
        "stderr": None if stderr == "N/A" else float(stderr),
        "n": int(raw["n-samples"][name]["effective"]),
        "filter": answer_filter,
        "metrics": metrics,
        "num_fewshot": int(raw["n-shot"][name]),
        "version": None if version is None else str(version),
    }


def main_metric(metrics: Iterable[str]) -> str:
    """Of keys like `acc,none` the first accuracy in the order of ACCURACIES, else the first key."""
    metrics = list(metrics)
    ranked = [key for accuracy in ACCURACIES for key in metrics if key.split(",")[0] == accuracy]
    return (ranked or metrics)[0]


def _load(manager: TaskManager, names: Sequence[str]) -> dict[str, Task]:
    known = set(manager.all_tasks)
    if unknown := [name for name in names if name not in known]:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = (
            f"; did you mean '{close[0]}'?" if close else " (lm-eval has none of that name, and there is no such path)"
        )
        raise UserError(f"unknown task: {', '.join(unknown)}{hint}")
    tasks: dict[str, Task] = {}
    failed: dict[str, Exception] = {}
    for name in names:
        try:
            tasks |= manager.load([name])["tasks"]
        except Exception as error:  # whatever task files, their code, their data and the hub may raise
            failed[name] = error
    if failed:
        raise UserError(f"cannot load the task {', '.join(failed)}: {_reason(next(iter(failed.values())))}")
    return tasks


def _reason(error: BaseException) -> str:
    """The innermost cause in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
