"""Evaluation: the results of a model on tasks or held-out text, as YAML.

A method.py of this stage defines `evaluate(model, work, *, keys) -> Evaluation`; `inputs(keys) -> {name: paths}`,
the files that the result depends on beside the model; and `check(model, keys)`, which raises UserError for what is
wrong with files, model and device, as far as that takes seconds: nothing is downloaded, nothing written.
"""

import contextlib
import functools
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from msgspec import Meta

from data_common.calls import remote_code
from data_common.calls.cli import main
from data_common.calls.config import build
from data_common.calls.stage import Call, Stage
from data_common.files.atomic import check_writable, draft_of
from data_common.files.manifest import Run
from data_common.files.work_folder import WorkFolder, read_record
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.parallel import distributed
from model_eval.accuracy import averages
from model_eval.evaluation import load_result, traces
from model_eval.provenance import content_of, made_by, provenance


def run(
    call: Call, *, arm: str | None = None, selection_ratio: Annotated[float, Meta(ge=0, le=1)] | None = None
) -> None:
    """Evaluate MODEL and write RESULT.yaml. A dry run asks the method what is wrong.

    Args:
        arm: name in comparisons, the same for all seeds of an arm; null = MODEL's name, parted by what made the models
        selection_ratio: share of the rows that MODEL was trained on; null = as the manifests of its data tell
    """
    model, result = call.paths
    if Path(model).is_dir() and not Path(model, "config.json").exists():
        raise UserError(f"the folder {model} holds no model (no config.json)")
    method = sys.modules[call.method.__module__]
    inputs = {"model": model} | method.inputs(call.method_keys)
    history = {"defaults": call.defaults, "versions": call.versions, "quick": call.dry_run, "paths": call.paths}
    stage_run = Run(call.stage, call.method_name, call.config, inputs, result, **history)
    if not call.dry_run and stage_run.is_done():
        return
    check_writable(Path(result))
    check_replaceable(Path(result), stage_run.input_files())
    method.check(model, call.method_keys)
    if call.dry_run:
        return
    given = {"arm": arm, "selection_ratio": selection_ratio}
    facts = provenance(model) | {name: value for name, value in given.items() if value is not None}
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(WorkFolder(traces(result), stage_run.contents(), stage_run).locked())
        try:
            evaluation = build(functools.partial(call.method, model, work), call.method_keys)
        except UserError:
            discard_unused(work.path)
            raise
    if not distributed.is_main():
        return
    tasks, groups = evaluation.tasks, evaluation.notes.get("groups", {})
    average = averages(tasks)
    summary = {"tasks": tasks} | average | evaluation.notes
    known = {"model_content": content_of(stage_run.identity["inputs"]["model"]), "made_by": made_by(model)}
    content = {"model": model, "method": call.method_name} | facts | summary | known
    with draft_of(result) as draft:
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")
        stage_run.check_inputs()
        stage_run.finish(draft, **summary)
    print(table(tasks | groups))
    for line in _about(average, evaluation.notes):
        print(line)
    remote_code.summary(call.config)
    print(f"  wrote {visible(result)} in {stage_run.seconds():.1f} s")


def check_replaceable(result: Path, read: Iterable[Path]) -> None:
    """Raises UserError where RESULT.yaml would replace a file that is read, or one that is no result."""
    if any(result.resolve() == path.resolve() for path in read):
        raise UserError(f"RESULT.yaml={result} is an input of this call: choose another")
    if result.exists() and result.stat().st_size:
        try:
            load_result(str(result))
        except UserError:
            raise UserError(f"RESULT.yaml={result} exists and is no result of model_eval: choose another") from None


def discard_unused(folder: Path) -> None:
    """Remove the folder of traces where no task was finished."""
    if distributed.is_main() and not any(read_record(path).get("complete") for path in folder.iterdir()):
        shutil.rmtree(folder)


def table(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """The results as aligned lines: task, metric, value, standard error, sample count, cut prompts; rows left out."""
    cut = any(result.get("cut_prompts") for result in tasks.values())
    lines = [("task", "metric", "value", "stderr", "n", *["cut prompts"][:cut])]
    for task, result in tasks.items():
        tasks_of = result.get("tasks", [])
        name = f"{task} ({len(tasks_of)} task{'s'[: len(tasks_of) > 1]}, {result['weighted']})" if tasks_of else task
        stderr = "-" if result["stderr"] is None else f"{result['stderr']:.4f}"
        counts = [f"{count:,}" for count in (result["n"], result.get("cut_prompts", 0))][: 1 + cut]
        lines.append((visible(name), visible(result["metric"]), f"{result['value']:.4f}", stderr, *counts))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(word.ljust(width) if place < 2 else word.rjust(width) for place, (word, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    dropped = {name: result["dropped_rows"] for name, result in tasks.items() if result.get("dropped_rows")}
    return "\n".join(text + [f"dropped {count:,} bad rows of {visible(name)}" for name, count in dropped.items()])


def _about(average: Mapping[str, Any], notes: Mapping[str, Any]) -> list[str]:
    lines = [average_line(**average)] if average["averaged_tasks"] else []
    skipped = notes.get("skipped")
    return [*lines, f"skipped: {visible(', '.join(skipped))}"] if skipped else lines


def average_line(summary_average: float, summary_average_by_item: float, averaged_tasks: int) -> str:
    """What is averaged, and how."""
    line = f"average accuracy: {summary_average:.4f}"
    if averaged_tasks > 1:
        line += f" ({averaged_tasks} tasks, each counted the same), {summary_average_by_item:.4f} (each item the same)"
    return line


STAGE = Stage("model_eval", ("MODEL", "RESULT.yaml"), ("evaluate",), run)
command = functools.partial(main, STAGE)

if __name__ == "__main__":
    sys.exit(command())
