"""Evaluation: the results of a model on tasks or held-out text, as YAML.

A method.py of this stage defines `evaluate(model, *, keys) -> {task: {metric, value, stderr, n, ...}}`, and
`inputs(keys) -> {name: paths}`, the files that the result depends on beside the model.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from common.cli import Call, Stage, main
from common.files import atomic_file, check_writable
from common.manifest import Run
from model_eval.accuracy import summary_average


def run(call: Call) -> None:
    """Evaluate MODEL and write RESULT.yaml."""
    model, result = call.paths
    inputs = {"model": model} | sys.modules[call.method.__module__].inputs(call.method_keys)
    stage_run = Run(call.stage, call.method_name, call.config, inputs, result)
    if stage_run.is_done():
        return
    check_writable(Path(result))
    tasks = call.method(model, **call.method_keys)
    summary = {"tasks": tasks, "summary_average": summary_average(tasks)}
    with atomic_file(result) as partial:
        content = {"model": model, "method": call.method_name} | summary
        partial.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    stage_run.finish(**summary)
    print(table(tasks))
    if summary["summary_average"] is not None:
        print(f"average accuracy: {summary['summary_average']:.4f}")
    print(f"  wrote {result} in {stage_run.seconds():.1f} s")


def table(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """The results as aligned lines: task, metric, value, standard error, sample count, and rows left out."""
    lines = [("task", "metric", "value", "stderr", "n")]
    for name, result in tasks.items():
        stderr = "-" if result["stderr"] is None else f"{result['stderr']:.4f}"
        lines.append((name, result["metric"], f"{result['value']:.4f}", stderr, f"{result['n']:,}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(word.ljust(width) if place < 2 else word.rjust(width) for place, (word, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    dropped = {name: result["dropped_rows"] for name, result in tasks.items() if result.get("dropped_rows")}
    return "\n".join(text + [f"dropped {count:,} bad rows of {name}" for name, count in dropped.items()])


STAGE = Stage("model_eval", ("MODEL", "RESULT.yaml"), "evaluate", run)

if __name__ == "__main__":
    sys.exit(main(STAGE))
