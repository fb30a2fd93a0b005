"""What people look at before they trust a score: its distribution, its best and its worst rows."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_common.files.atomic import save_figure, write_text
from data_common.messages.visible import visible
from data_common.rows.statistics import quantiles

SHOWN = 10  # best and worst rows
EXCERPT = 300  # characters of the text of a row
AXIS = (0.001, 0.999)  # quantiles between which the histogram is drawn


def write_report(
    folder: Path,
    name: str,
    field: str,
    scores: np.ndarray,
    higher_is_better: bool | None,
    text_of: Callable[[int], str],
    place_of: Callable[[int], str],
    facts: Mapping[str, Any],
) -> Path:
    """Write `report.txt` (numbers, facts, best and worst rows) and `scores.png` (histogram) into `folder`.

    name: the method. field: the field of its score. scores: (n,), NaN for a row that was left out; not all NaN.
    text_of, place_of: row -> its text, its FILE:LINE; called for the rows shown alone. facts: one a line.
    -> path of the text.
    """
    order = {True: "higher is better", False: "lower is better", None: "neither end is better"}[higher_is_better]
    first, last = ("highest", "lowest") if higher_is_better is None else ("best", "worst")
    rows = np.flatnonzero(~np.isnan(scores))
    values = scores[rows]
    rows = rows[np.argsort(values if higher_is_better is False else -values, kind="stable")]  # best first
    lines = [f"{name}: {field}, {order}", "", *_numbers(len(scores), values)]
    lines += [f"{key}: {value}" for key, value in facts.items()]
    worst = max(0, len(rows) - SHOWN)
    for title, ranks in (first, range(len(rows))[:SHOWN]), (last, range(len(rows))[worst:]):
        lines += ["", f"The {len(ranks)} {title} rows"]
        for rank in ranks:
            row = int(rows[rank])
            text = text_of(row)
            lines += ["", f"{rank + 1}. {field} {scores[row]:.6g}, {place_of(row)}, {len(text):,} characters"]
            lines += [f"   {_excerpt(text)}"]
    report = folder / "report.txt"
    write_text(report, "\n".join(map(visible, lines)) + "\n")
    _histogram(folder / "scores.png", f"{name}: {field}, {order}", field, values)
    return report


def _numbers(rows: int, values: np.ndarray) -> list[str]:
    _, counts = np.unique(values, return_counts=True)
    return [
        f"rows: {rows:,}, with a score: {len(values):,}",
        f"mean: {values.mean():.6g}, standard deviation: {values.std():.6g}",
        "quantiles: " + ", ".join(f"{q}: {value:.6g}" for q, value in quantiles(values).items()),
        f"rows whose score another row has too: {counts[counts > 1].sum() / len(values):.2%}",
    ]


def _excerpt(text: str) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else line[:EXCERPT] + "…"


def _histogram(path: Path, title: str, field: str, values: np.ndarray) -> None:
    """PNG of the distribution without its outliers, whose share the title tells."""
    from matplotlib.figure import Figure  # drawn by Agg, without a display

    low, high = np.quantile(values, AXIS[0], method="lower"), np.quantile(values, AXIS[1], method="higher")
    inside = values[(values >= low) & (values <= high)]
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # one bar: no narrower bars can be told apart
        margin = abs(low) / 2 or 0.5
        low, high = low - margin, high + margin
    beyond = 1 - len(inside) / len(values)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axis = figure.subplots()
    axis.hist(inside, bins=min(100, math.isqrt(len(inside)) + 1), range=(low, high), color="grey")
    axis.set(title=f"{title}\n{len(values):,} rows, {beyond:.2%} of them beyond the axis", xlabel=field, ylabel="rows")
    save_figure(path, figure)
