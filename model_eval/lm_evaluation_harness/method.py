"""Benchmarks by lm-evaluation-harness: tasks by name, from the hub, or of your own, from local files.

The harness (https://github.com/EleutherAI/lm-evaluation-harness) and the choice of metrics of DELT (arXiv 2506.21545).
"""

from typing import Annotated, Any, Literal

from msgspec import Meta

from common.errors import UserError
from model_eval.lm_evaluation_harness.network import settle
from model_eval.lm_evaluation_harness.task_files import check_data, read_tasks, split

DEFAULT_CONFIG = "general.yaml"


def evaluate(
    model: str,
    *,
    tasks: str | list[str],
    num_fewshot: Annotated[int, Meta(ge=0)] | None = None,
    limit: Annotated[int, Meta(ge=1)] | None = None,
    add_bos_token: bool = True,
    max_length: Annotated[int, Meta(ge=2)] | None = None,
    batch_size: Annotated[int, Meta(ge=1)] = 64,
    bootstrap_iterations: Annotated[int, Meta(ge=0)] = 1000,
    allow_code_execution: bool = False,
    seed: Annotated[int, Meta(ge=0)] = 10,
    device: str = "auto",
    dtype: Literal["auto", "float64", "float32", "bfloat16"] = "auto",
) -> dict[str, dict[str, Any]]:
    """Evaluate `model` on `tasks`; all tasks are found and loaded before the model is.

    Args:
        tasks: a task of lm-eval, a folder of task YAMLs, one task YAML, or a list of these
        num_fewshot: solved examples in the prompt; null = as the task says, else 0
        limit: only the first samples of each task (for a trial); null = all
        add_bos_token: texts start with BOS (where the tokenizer has one), as in training
        max_length: tokens of context and answer, cut from the left; null = as many as the model has
        batch_size: sequences of one forward pass
        bootstrap_iterations: resamples for standard errors that have no formula; 0 = no standard errors
        allow_code_execution: true runs tasks that execute what the model writes, on this machine
        seed: of the few-shot examples, and of sampling
        device: auto, cpu, cuda, cuda:1, mps, ...
        dtype: of the weights; auto is bfloat16 where the device computes in it natively, else float32

    Returns: {leaf task: metric (acc_norm, else acc, exact_match, pass@1, else the first one), value, stderr,
        n (samples), filter (of the answers), metrics (all of them, by name and filter), num_fewshot, version}.
    Raises: UserError for an unknown task, data that cannot be had, and a model that cannot be loaded.
    """
    if not tasks:
        raise UserError("tasks is empty: name at least one task, folder or task YAML")
    places, names = split(tasks)
    local = read_tasks(places)
    for task in local:
        check_data(task)
    settle(model, needs_hub=bool(names))  # before anything imports the libraries of the hub
    from model_eval.lm_evaluation_harness import harness  # seconds, for which help and bad input need not wait

    loaded = harness.load_tasks(local, names, allow_code_execution)
    language_model = harness.load_language_model(model, device, dtype, add_bos_token, max_length, batch_size)
    return harness.evaluate(
        language_model, loaded, num_fewshot, limit, bootstrap_iterations, allow_code_execution, seed
    )


def inputs(keys: dict[str, Any]) -> dict[str, list[str]]:
    """The local task YAMLs, the code beside them and their data. Raises: UserError for a missing or broken file."""
    tasks = read_tasks(split(keys["tasks"])[0])
    return {
        "tasks": [str(file) for task in tasks for file in task.files],
        "code": [str(file) for task in tasks for file in task.code_files()],
        "data": [file for task in tasks for file in task.data_files()],
    }
