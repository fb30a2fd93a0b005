"""Side-by-side report of arms: a Markdown table of results and seconds, and a figure.

    python -m model_eval.report REPORT.md ARM=RESULT.yaml [ARM=RESULT.yaml ...] [--stages NAME=OUTPUT ...]

Several results of one arm are joined. Seconds come from the manifests of the stage outputs; the loss curves in
the figure (REPORT.png) from the train_log.jsonl of the model that each result names.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from data_common.files.atomic import save_figure, write_text
from data_common.files.manifest import manifest_path
from data_common.messages.errors import UserError, exit_code
from data_common.messages.terminal import detach_input
from data_common.messages.visible import in_table, visible
from model_eval.accuracy import higher_is_better, in_words
from model_eval.evaluation import load_result

Results = dict[str, dict[str, Any]]  # arm -> {"model": ..., "tasks": {name: {metric, value, stderr, n}}}


def read_results(words: list[str]) -> Results:
    """Join the RESULT.yaml files of `ARM=PATH` words by arm. Raises: UserError for a file that is no result."""
    results: Results = {}
    for word in words:
        arm, _, path = word.partition("=")
        if not path:
            raise UserError(f"{word}: wanted ARM=RESULT.yaml")
        content = load_result(path)
        joined = results.setdefault(arm, {"model": content["model"], "tasks": {}})
        joined["tasks"] |= content["tasks"]
    return results


def read_seconds(words: list[str]) -> dict[str, float]:
    """Stage name -> seconds, from the manifest of each `NAME=OUTPUT`."""
    seconds = {}
    for word in words:
        name, _, output = word.partition("=")
        try:
            seconds[name] = json.loads(manifest_path(output).read_text(encoding="utf-8"))["seconds"]
        except (OSError, ValueError, KeyError):
            raise UserError(f"{output} has no manifest: the stage is not complete") from None
    return seconds


def table(results: Results, seconds: dict[str, float]) -> str:
    """The report in Markdown: a row a task, a column an arm; then a row a stage."""
    arms = list(results)
    names = list(dict.fromkeys(name for arm in arms for name in results[arm]["tasks"]))
    lines = [f"| task | metric | {' | '.join(map(in_table, arms))} |", "|---|---|" + "---:|" * len(arms)]
    for name in names:
        tasks = [results[arm]["tasks"].get(name) for arm in arms]
        first = next(task for task in tasks if task)
        metric = in_table(in_words(first["metric"], higher_is_better(first)))
        lines.append(f"| {in_table(name)} | {metric} | {' | '.join(map(_cell, tasks))} |")
    if seconds:
        lines += ["", "| stage | seconds |", "|---|---:|"]
        lines += [f"| {in_table(name)} | {value:.1f} |" for name, value in seconds.items()]
    return "\n".join(lines) + "\n"


def figure(results: Results, seconds: dict[str, float], path: Path) -> None:
    """Loss curves, one panel a task with standard errors, seconds a stage, as PNG."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for result in results.values() for name in result["tasks"]))
    sheet = Figure(figsize=(3.6 * (len(names) + 2), 3.4), layout="constrained")
    axes = sheet.subplots(1, len(names) + 2)
    for number, (arm, result) in enumerate(results.items()):
        steps, losses = _loss_curve(Path(result["model"]))
        axes[0].plot(steps, losses, label=arm, color=f"C{number}")
        for axis, name in zip(axes[1:], names, strict=False):
            task = result["tasks"].get(name)
            if task:
                axis.bar(arm, task["value"], yerr=task["stderr"] or 0, color=f"C{number}", capsize=4)
                axis.set(title=name, ylabel=task["metric"].replace("_", " "))
    axes[0].set(title="training loss, in training order", xlabel="optimizer step", ylabel="nats per token")
    axes[0].legend()
    axes[-1].barh(list(seconds), list(seconds.values()), color="grey")
    axes[-1].invert_yaxis()
    axes[-1].set(title="time of each stage", xlabel="seconds")
    save_figure(path, sheet)


def _cell(task: dict[str, Any] | None) -> str:
    if task is None:
        return ""
    error = "" if task["stderr"] is None else f" ± {task['stderr']:.4f}"
    return f"{task['value']:.4f}{error} (n = {task['n']:,})"


def _loss_curve(model: Path) -> tuple[list[int], list[float]]:
    log = model / "train_log.jsonl"
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").split("\n") if line] if log.exists() else []
    training = [entry for entry in entries if "loss" in entry]  # others are of held-out text
    return [entry["step"] for entry in training], [entry["loss"] for entry in training]


def write_report(report: Path, results_words: list[str], stage_words: list[str]) -> None:
    """Write REPORT.md and REPORT.png, print the table."""
    results, seconds = read_results(results_words), read_seconds(stage_words)
    text, picture = table(results, seconds), report.with_suffix(".png")
    write_text(report, text)
    figure(results, seconds, picture)
    print(f"\n{text}\nwrote {visible(f'{report} and {picture}')}")


def main(words: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], prog="python -m model_eval.report")
    parser.add_argument("report", type=Path, metavar="REPORT.md")
    parser.add_argument("results", nargs="+", metavar="ARM=RESULT.yaml")
    parser.add_argument("--stages", nargs="*", default=[], metavar="NAME=OUTPUT")

    def work() -> None:
        arguments = parser.parse_args(words)
        write_report(arguments.report, arguments.results, arguments.stages)

    if words is None:
        detach_input(sys.argv[1:])
    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
