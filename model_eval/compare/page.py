"""The comparison as a page: tasks by arms, and the differences to the baseline with their intervals."""

from pathlib import Path

import numpy as np

from data_common.messages.visible import cut, visible
from data_common.reports.page import Section, Table, write_page
from data_common.reports.pictures import beside_names, intervals, plain_axis
from model_eval.accuracy import in_words
from model_eval.compare.outcomes import Comparison, arm_names
from model_eval.compare.paired import Difference
from model_eval.compare.table import Differences, cells, metric_of, verdict

NAME = 60  # characters of a name in a table


def write_results_page(
    path: Path, comparison: Comparison, differences: Differences, baseline: str, confidence: float
) -> None:
    """Write the page. Raises: UserError where `path` cannot be written."""
    arms = arm_names(comparison)
    rows = []
    for task, found in cells(comparison).items():
        texts = [found[arm].text() if arm in found else "" for arm in arms]
        rows.append([cut(task, NAME), in_words(*metric_of(comparison, task)), *texts])
    head = ["task", "metric", *(cut(arm, NAME) for arm in arms)]
    results = Section(
        "Results", "±: standard error over items; sd: standard deviation over seeds.", table=Table(head, rows)
    )
    sections = [_section(comparison, found, arm, baseline, confidence) for arm, found in differences.items() if found]
    write_page(path, f"{len(arms)} arms, {len(comparison)} tasks", "", Table([], []), [results, *sections])


def _section(
    comparison: Comparison, found: dict[str, Difference], arm: str, baseline: str, confidence: float
) -> Section:
    rows = [
        [cut(task, NAME), f"{one.value:+.4f}", f"{one.low:+.4f} to {one.high:+.4f}", verdict(comparison, task, one)]
        for task, one in found.items()
    ]
    values = {task: (one.low, one.value, one.high) for task, one in found.items()}
    x = plain_axis(
        "difference", np.array([0.0, *(value for some in values.values() for value in some)]), *beside_names()
    )
    return Section(
        f"{visible(arm)} minus {visible(baseline)}",
        f"Differences on the same items, with {confidence:.0%} intervals. An interval that holds zero is noise.",
        [intervals(values, x)],
        table=Table(["task", "difference", f"{confidence:.0%} interval", ""], rows),
    )
