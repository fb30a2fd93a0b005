"""Comparison of results: a Markdown table, paired differences, a CSV file, and a picture.

bash model_eval/compare.sh RESULT.yaml RESULT.yaml ... [key=value ...]
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from data_common.calls.config import Positive, Seed, describe, keys_of, pairs, resolve
from data_common.messages.commands import IN_REPOSITORY
from data_common.messages.errors import UserError, exit_code
from data_common.messages.terminal import detach_input, say
from data_common.messages.visible import visible

COMMAND = "bash model_eval/compare.sh" if IN_REPOSITORY else "model-eval-compare"
USAGE = f"usage: {COMMAND} RESULT.yaml RESULT.yaml ... [key=value ...]"


def compare(
    paths: Sequence[str],
    *,
    baseline: str | None = None,
    output: str = "comparison",
    bootstrap_iterations: Positive = 2000,
    confidence: Annotated[float, Meta(gt=0, lt=1)] = 0.95,
    seed: Seed = 10,
) -> None:
    """Print the comparison of RESULT.yaml files; write OUTPUT.csv, OUTPUT.html and, with selection ratios, OUTPUT.png.

    Args:
        baseline: arm that the others are compared with; null = the first
        output: path of the CSV file, the page and the picture, without .csv, .html and .png
        bootstrap_iterations: resamples of the items for the confidence intervals
        confidence: of the intervals
        seed: of the resampling

    Raises: UserError for what is no result, an unknown baseline, and results that cannot be compared.
    """
    from model_eval.compare import outcomes, page, paired, picture, results, settings, table

    comparison = results.read_results(paths)
    arms = outcomes.arm_names(comparison)
    if not arms:
        raise UserError(f"none of the results has a task: {', '.join(paths)}")
    baseline = arms[0] if baseline is None else baseline
    if baseline not in arms:
        raise UserError(f"baseline={baseline} is not one of the arms {', '.join(arms)}")
    found = {
        arm: paired.differences(comparison, baseline, arm, bootstrap_iterations, confidence, seed)
        for arm in arms
        if arm != baseline
    }
    print(table.markdown(comparison, found, baseline, confidence))
    for note in settings.notes(comparison):
        print(f"note: {visible(note)}")
    table.write_csv(Path(f"{output}.csv"), comparison, found, baseline)
    drawn = picture.draw(comparison, Path(f"{output}.png"))
    picture_told = f" and {output}.png" if drawn else " (no picture: it takes two results with a selection ratio)"
    page.write_results_page(Path(f"{output}.html"), comparison, found, baseline, confidence)
    print(visible(f"wrote {output}.csv{picture_told}"))
    print(visible(f"wrote {output}.html"))


def run(words: list[str]) -> None:
    """The command line. Raises: UserError."""
    if not words or "--help" in words or "-h" in words:
        say(f"{USAGE}\n\n{compare.__doc__.split(chr(10))[0]}\n\nkeys:\n{describe(keys_of(compare))}")
        return
    if unknown := [word for word in words if word.startswith("-")]:
        raise UserError(f"unknown option {unknown[0]}: the only option is --help, all else is RESULT.yaml or key=value")
    paths = [word for word in words if "=" not in word or os.path.exists(word)]
    if not paths:
        raise UserError(f"RESULT.yaml is missing; {USAGE}")
    overrides = pairs(word for word in words if word not in paths)
    compare(paths, **resolve(keys_of(compare), None, overrides))


def command() -> int:
    """Run the words of this process; returns the exit code."""
    detach_input(sys.argv[1:])
    return exit_code(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(command())
