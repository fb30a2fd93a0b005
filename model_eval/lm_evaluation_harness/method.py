"""Benchmarks by lm-evaluation-harness: by name, from the hub or from local files, or tasks of your own.

The harness (https://github.com/EleutherAI/lm-evaluation-harness) and the choice of metrics of DELT (arXiv 2506.21545).
"""

import contextlib
import functools
from typing import Annotated, Any, Literal

import xxhash
from msgspec import Meta

from data_common.calls import remote_code
from data_common.calls.config import Attention, Positive, Seed
from data_common.files.temporary import temporary_folder
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.rows.jsonl import open_source
from data_common.rows.texts import first_texts
from model_eval.evaluation import Evaluation, folder_of
from model_eval.lm_evaluation_harness import preflight
from model_eval.lm_evaluation_harness.chat import Chat, template_of
from model_eval.lm_evaluation_harness.doubts import doubts_about
from model_eval.lm_evaluation_harness.network import settle
from model_eval.lm_evaluation_harness.task_files import LocalTask

ABOUT = {
    "family": "benchmarks",
    "needs": "tasks, from the hub or from local files",
    "cost": "one forward pass of every choice",
    "formula": "exact",
}

DEFAULT_CONFIG = "general.yaml"
VERSIONS = {
    2: "BOS stood twice before texts of rolling tasks and was cut off first, and an item could be its own example"
}


def evaluate(
    model: str,
    work: WorkFolder,
    *,
    tasks: str | list[str],
    data_dir: str | None = None,
    on_missing_task: Literal["error", "skip"] = "error",
    num_fewshot: Annotated[int, Meta(ge=0)] | None = None,
    limit: Positive | None = None,
    apply_chat_template: bool | str = False,
    system_instruction: str | None = None,
    fewshot_as_multiturn: bool = True,
    add_bos_token: bool = True,
    max_length: Annotated[int, Meta(ge=2)] | None = None,
    batch_size: Positive | Literal["auto"] = "auto",
    bootstrap_iterations: Annotated[int, Meta(ge=0)] = 1000,
    allow_code_execution: bool = False,
    contamination_data: str | None = None,
    contamination_field: str | list[str] = "text",
    seed: Seed = 10,
    model_format: Literal["hf"] = "hf",
    device: str = "auto",
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float", "half"] = "auto",
    attention: Attention = "sdpa",
    trust_remote_code: bool = False,
) -> Evaluation:
    """Evaluate `model` on `tasks`; all tasks are found and loaded before the model is.

    Args:
        tasks: a task of lm-eval, a folder of task YAMLs, one task YAML, or a list of these
        data_dir: read the benchmarks from JSONL files in this folder; null = from the hub
        on_missing_task: a task that cannot be had stops the run, or is left out and listed in the result
        num_fewshot: solved examples in the prompt; null = as the task says, else 0
        limit: only the first samples of each task (for a trial); null = all
        apply_chat_template: true asks in the chat template of the tokenizer, as a model is asked that was trained on
            conversations; the name of one of several; false asks in plain text
        system_instruction: what the system says first (in plain text: right in front of the prompt); null = nothing
        fewshot_as_multiturn: examples are turns of the conversation; false puts all into the user's words
        add_bos_token: texts start with BOS (where the tokenizer has one), as in training; a chat template has its own
        max_length: tokens of context and answer, cut from the left; null = as many as the model has
        batch_size: sequences of one forward pass; auto begins with many and halves on out-of-memory
        bootstrap_iterations: resamples for standard errors that have no formula; 0 = no standard errors
        allow_code_execution: true runs tasks that execute what the model writes, and Python code that your own task
            files name (`!function`, metrics), on this machine
        contamination_data: training data, in which each task's items are looked for; null = not looked for
        contamination_field: text field of a row of contamination_data, or a list of them
        seed: of the few-shot examples, and of sampling
        model_format: hf, a model that transformers loads
        device: auto, cpu, cuda, cuda:1, mps, ...
        dtype: of the weights; auto is bfloat16 where the device computes in it natively, else float32
        attention: sdpa (eager where the architecture has no sdpa) or eager
        trust_remote_code: true runs Python code that comes with a model or tokenizer; false refuses what needs it

    Returns: of each leaf task: metric (acc_norm, else acc, strict exact_match, pass@1, else the first one), value,
        stderr, n (samples), cut_prompts (of items that did not fit), filter (of the answers), metrics (all of them, by
        name and filter), num_fewshot, version, limit, data, items (a digest; the items themselves lie in the folder of
        the task), notes (what is to be known of the number). As notes: settings (what the numbers depend on beside
        model and tasks), groups, skipped.
    Raises: UserError for tasks or data that cannot be had, all at once, and a model that cannot be loaded.
    """
    plan = preflight.plan(tasks, data_dir, num_fewshot)
    preflight.refuse_code(plan, allow_code_execution)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("tasks"))
        contents = preflight.prepare(plan, folder, allow_code_execution)
        if not contents and not plan.others:
            preflight.settle_problems(plan.problems, on_missing_task, 0)
        settle(model, plan.needs_hub())  # before anything imports the libraries of the hub
        from data_common.models import loading
        from data_common.models.settings import attention_identity
        from model_eval.lm_evaluation_harness import (  # seconds, which bad input need not wait for
            group_results,
            harness,
            language_model,
        )

        preflight.refuse_metrics(plan, contents, harness.METRICS, allow_code_execution)
        chat = Chat(apply_chat_template, system_instruction, fewshot_as_multiturn)
        settings = harness.Settings(chat, num_fewshot, limit, bootstrap_iterations, allow_code_execution, seed)
        loaded = harness.load_tasks(contents, plan.others, folder, settings, plan.problems)
        preflight.check_literals(plan, loaded.tasks)
        groups = group_results.complete_groups(plan.groups, loaded, plan.problems)
        preflight.settle_problems(plan.problems, on_missing_task, len(loaded.tasks))
        found = {}
        if contamination_data is not None:
            from model_eval.contamination import look_for

            found = look_for(loaded.tasks, contamination_data, contamination_field, limit, work)
        picked = loading.pick_device(device)
        precision = loading.pick_dtype(dtype, picked)
        shape = (add_bos_token, max_length, batch_size, trust_remote_code, apply_chat_template)
        network = language_model.load_language_model(model, picked, precision, *shape, attention)
        given = {"add_bos_token": add_bos_token, "max_length": max_length, "dtype": str(precision)}
        keys = given | vars(settings) | {"chat": vars(chat)} | attention_identity(attention)
        keys |= remote_code.identity(trust_remote_code)
        results = {}
        for name, task in loaded.tasks.items():
            source = plan.tasks.get(name)
            run = functools.partial(harness.run_task, network, name, task, settings)
            result = work.step(folder_of(name), keys | preflight.identity(source), ("model",), run)
            notes = preflight.notes_of(source) + loaded.notes[name] + result.pop("notes", [])
            results[name] = result | {"limit": limit, "data": preflight.origin(source, task)} | found.get(name, {})
            results[name] |= {"notes": notes} if notes else {}
        of_groups = group_results.group_results(groups, results, work.path)
    for line in (line for name, result in (results | of_groups).items() for line in doubts_about(name, result)):
        print(f"warning: {visible(line)}")
    told = {"settings": settings_of(network, given, chat), "groups": of_groups, "skipped": plan.problems}
    return Evaluation(results, {name: value for name, value in told.items() if value})


def settings_of(network: Any, given: dict[str, Any], chat: Chat) -> dict[str, Any]:
    """What the numbers depend on beside model and tasks. given: add_bos_token, max_length, dtype."""
    known = given | {"dtype": given["dtype"].removeprefix("torch."), "positions": network.max_length} | vars(chat)
    if network.template is not None:
        known["chat_template"] = xxhash.xxh3_64_hexdigest(network.template.encode())
    return known


def check(model: str, keys: dict[str, Any]) -> None:
    """Raises UserError for tasks that are not known or whose local data is wrong, all at once; for model or device."""
    plan = preflight.plan(keys["tasks"], keys["data_dir"], keys["num_fewshot"])
    preflight.refuse_code(plan, keys["allow_code_execution"])
    preflight.look(plan)
    if keys["contamination_data"] is not None:
        with open_source(keys["contamination_data"], whole=False, key="contamination_data") as source:
            first_texts(source, keys["contamination_field"])
    if plan.left():
        settle(model, plan.needs_hub())
    if plan.others or any(isinstance(task, LocalTask) for task in plan.tasks.values()):
        from model_eval.lm_evaluation_harness.harness import METRICS, note_unknown

        note_unknown(plan.others, plan.problems)
        left = {name: {} for name in plan.left() if name in plan.tasks}
        preflight.refuse_metrics(plan, left, METRICS, keys["allow_code_execution"])
    if keys["on_missing_task"] == "error" or not plan.left():
        preflight.settle_problems(plan.problems, "error", len(plan.left()))
    from data_common.models import loading
    from data_common.models.checks import check_model, only_on_hub

    loading.pick_dtype(keys["dtype"], loading.pick_device(keys["device"]))
    check_model(model, keys["max_length"], trust_remote_code=keys["trust_remote_code"])
    if keys["apply_chat_template"] is not False and not only_on_hub(model):
        template_of(loading.load_tokenizer(model, keys["trust_remote_code"]), keys["apply_chat_template"], model)


def inputs(keys: dict[str, Any]) -> dict[str, list[str]]:
    """Task YAMLs of the user, the code beside them, and all local data; what is missing is left to the preflight."""
    files: dict[str, list[str]] = {"tasks": [], "code": [], "data": []}
    plan = preflight.plan(keys["tasks"], keys["data_dir"], keys["num_fewshot"])
    files["tasks"] += [str(group.path) for group in plan.groups.values()]
    for task in plan.tasks.values():
        files["tasks"] += map(str, task.files)
        files["code"] += map(str, task.code_files())
        with contextlib.suppress(UserError):
            files["data"] += task.data_files()
    if keys["contamination_data"] is not None:
        with open_source(keys["contamination_data"], whole=False, key="contamination_data") as source:
            files["contamination"] = [shard.name for shard in source.shards]
    return files


evaluate.shares_work = True
