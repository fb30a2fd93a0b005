"""progress.png: what a run learned from and how, above one axis of tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_common.files.atomic import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Entry = Mapping[str, float]  # of train_log.jsonl, with its `tokens`
PANELS = {"score": "score", "learning_rate": "learning rate", "batch": "tokens a step", "loss": "loss (nats)"}
PANELS |= {"grad_norm": "gradient norm"}
LOSSES = {"loss": ("training", "-"), "heldout_loss": ("held out", "o-")}
LOSSES |= {"average_heldout_loss": ("held out, averaged weights", "*")}
FEW = 30  # points that are marked each


def draw(path: Path, entries: Sequence[Entry], averaged: Sequence[int]) -> None:
    """Score of the rows, learning rate, batch size, losses and gradient norm, each where the log has it.

    averaged: tokens before each of the weights that are averaged.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    steps = [entry for entry in entries if "loss" in entry]
    names = [name for name in PANELS if name == "batch" or any(name in entry for entry in steps)]
    heights = [2 if name == "loss" else 1 for name in names]
    sheet = Figure(figsize=(8, 1.4 * sum(heights) + 0.8), layout="constrained")
    grid = sheet.subplots(len(names), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, name in zip(grid, names, strict=True):
        for number, tokens in enumerate(averaged):
            label = "weights that are averaged" if name == "loss" and not number else None
            axes.axvline(tokens, color="gray", linestyle=":", linewidth=1, label=label)
        if name == "batch":
            _draw_batch(axes, steps)
        else:
            _draw_lines(axes, entries, LOSSES if name == "loss" else {name: (None, "-")})
        axes.set_ylabel(PANELS[name])
        axes.grid(alpha=0.3)
        if name == "loss" and len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1), ncols=4, frameon=False, fontsize="small")
    sheet.align_ylabels(grid)
    grid[-1].set_xlabel("tokens")
    grid[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    save_figure(path, sheet)


def _draw_batch(axes: "Axes", steps: Sequence[Entry]) -> None:
    """Tokens of an optimizer step, the mean between two entries of the log: whatever the batch size was there."""
    from matplotlib.ticker import EngFormatter

    edges = [0, *(entry["tokens"] for entry in steps)]
    before = [0, *(entry["step"] for entry in steps)]
    tokens = [(edges[place + 1] - edges[place]) / (entry["step"] - before[place]) for place, entry in enumerate(steps)]
    axes.stairs(tokens, edges, baseline=None, linewidth=1.5)
    axes.set_ylim(0, 1.1 * max(tokens))
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))


def _draw_lines(axes: "Axes", entries: Sequence[Entry], styles: Mapping[str, tuple[str | None, str]]) -> None:
    """styles: field of the log -> label and format of its line."""
    for color, (name, (label, style)) in enumerate(styles.items()):
        points = [(entry["tokens"], entry[name]) for entry in entries if name in entry]
        if points:
            style = f".{style}" if style == "-" and len(points) < FEW else style
            size = 10 if style == "*" else 4
            axes.plot(*zip(*points, strict=True), style, color=f"C{color}", label=label, markersize=size)
