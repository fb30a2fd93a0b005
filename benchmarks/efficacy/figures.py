"""Figures of the study: the contrasts, both kinds of text against each other, a page with ratios, folds and curves."""

import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from benchmarks.efficacy import records
from benchmarks.efficacy.plan import FOLDER, Plan, load
from benchmarks.efficacy.records import GENERAL, TARGET, Measure

RATIOS = (10, 30, 50, 70)  # per cent
LAYERS = {
    1: "lqs-sorting",
    2: "lqs-folding2",
    3: "lqs-folding",
    4: "lqs-folding4",
    5: "lqs-folding5",
    6: "lqs-folding6",
}
CURVES = ("shuffle", "lqs-sorting", "lqs-folding", "junk-last")
FAR = 0.1  # bits per byte worse than shuffle: beyond the figure of both kinds of text
ORDERS = ("lqs-sorting", "lqs-folding", "lqs-zigzag", "lqs-stair", "lqs-saw")


def draw(data: str, folder: Path) -> None:
    """Write results-main.png, results-trade.png and results.png."""
    plan, found = load(data), records.read(data)
    measured = records.measures(plan, found)
    path = FOLDER / "results" / data / "scores.json"
    save(contrasts(plan, measured), folder / "results-main.png")
    save(trade(plan, measured), folder / "results-trade.png")
    scores = json.loads(path.read_text(encoding="utf-8"))["scores"] if path.exists() else {}
    save(page(measured, found, scores), folder / "results.png")


def save(sheet: Figure, path: Path) -> None:
    sheet.savefig(path, dpi=110, metadata={"Software": None})


def contrasts(plan: Plan, measured: dict[str, Measure]) -> Figure:
    """The main contrasts with their intervals, on both kinds of held-out text."""
    sheet = Figure(figsize=(9, 5.5), layout="constrained")
    for axes, name in zip(sheet.subplots(1, 2, sharey=True), (TARGET, GENERAL), strict=True):
        one = measured[name]
        rows = [(f"{a} - {b}", one.fit.difference(a, b)) for a, b in plan.contrasts["main"]]
        rows = [(title, found) for title, found in rows if found][::-1]
        for place, (_, found) in enumerate(rows):
            colour = "grey" if not found.clear else "tab:green" if found.value < 0 else "tab:red"
            axes.errorbar(found.value, place, xerr=found.margin, fmt="o", color=colour, capsize=3)
        axes.set_yticks(range(len(rows)), [title for title, _ in rows])
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(title=f"{name} text", xlabel="bits per byte, left = better")
        axes.grid(axis="x", alpha=0.3)
    return sheet


def trade(plan: Plan, measured: dict[str, Measure]) -> Figure:
    """Arms by their differences from `shuffle` on both kinds of text; those that train in another way are left out.

    What is more than FAR worse on either is named only.
    """
    sheet = Figure(figsize=(9, 7), layout="constrained")
    axes = sheet.subplots()
    beyond: list[str] = []
    stages = {"order": "tab:orange", "selection": "tab:blue", "selection and order": "tab:green"}
    for number, (name, arm) in enumerate(plan.arms.items()):
        both = [measured[kind].fit.difference(name, "shuffle") for kind in (TARGET, GENERAL)]
        if arm.training or not all(both) or name == "shuffle":
            continue
        if max(one.value for one in both) > FAR:
            beyond.append(name)
            continue
        called = {call.split()[0] for call in arm.calls}
        kind = "selection and order" if len(called) > 1 else "selection" if "data_selection" in called else "order"
        (x, y), (wide, high) = zip(*((one.value, one.margin) for one in both), strict=True)
        axes.errorbar(x, y, xerr=wide, yerr=high, fmt="o", color=stages[kind], alpha=0.7, linewidth=0.8)
        axes.annotate(name, (x, y), textcoords="offset points", xytext=(4, 4 if number % 2 else -11), fontsize="small")
    for line in (axes.axhline, axes.axvline):
        line(0, color="black", linewidth=0.8)
    axes.legend(handles=[Line2D([], [], marker="o", linestyle="", color=c, label=kind) for kind, c in stages.items()])
    axes.set(xlabel=f"{TARGET} text: bits per byte against shuffle, left = better")
    axes.set(ylabel=f"{GENERAL} text: bits per byte against shuffle, lower = better")
    axes.set_title(f"not shown, more than {FAR:g} worse: {', '.join(beyond) or 'none'}", fontsize="small")
    axes.grid(alpha=0.3)
    return sheet


def page(measured: dict[str, Measure], found: list[dict], scores: dict) -> Figure:
    """Ratios, folds, loss curves below the order of the rows, and scores by kind of text."""
    sheet = Figure(figsize=(12, 15), layout="constrained")
    grid = sheet.subplots(4, 2)
    for column, name in enumerate((TARGET, GENERAL)):
        ratios(grid[0, column], measured[name])
        folds(grid[1, column], measured[name])
    orders(grid[2, 0], found)
    curves(grid[3, 0], found)
    for axes, name in zip(grid[2:, 1], ("lqs", "kenlm"), strict=True):
        if name in scores:
            histogram(axes, name, scores[name])
    return sheet


def ratios(axes: Axes, one: Measure) -> None:
    """Bits per byte against the share of the rows that is kept."""
    for method in ("random", "kenlm", "pds", "lqs"):
        arms = {ratio: f"{method}{ratio}" for ratio in RATIOS} | {100: "shuffle"}
        points = [(ratio / 100, *one.fit.level(arm)) for ratio, arm in arms.items() if arm in one.fit.runs]
        if points:
            axes.errorbar(*map(list, zip(*points, strict=True)), fmt="o-", capsize=3, label=method)
    axes.set(xlabel="share of rows kept (equal tokens)", ylabel=one.title)
    axes.legend()


def folds(axes: Axes, one: Measure) -> None:
    """Bits per byte against the number of folds, beside random order."""
    points = [(layer, *one.fit.level(arm)) for layer, arm in LAYERS.items() if arm in one.fit.runs]
    if points:
        axes.errorbar(*map(list, zip(*points, strict=True)), fmt="o-", capsize=3, label="folding by lqs")
    if "shuffle" in one.fit.runs:
        value, margin = one.fit.level("shuffle")
        axes.axhline(value, color="grey", label="shuffle")
        axes.axhspan(value - margin, value + margin, color="grey", alpha=0.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="folds (1 = sorting)", ylabel=one.title)
    axes.legend()


def orders(axes: Axes, found: list[dict]) -> None:
    """The mean score of the rows that each part of a training saw."""
    for name in ORDERS:
        for record in [record for record in found if record["arm"] == name and record["order"]][:1]:
            axes.plot(*zip(*record["order"], strict=True), label=name)
    axes.set(xlabel="tokens", ylabel="mean lqs of the rows of a step")
    legend_above(axes, columns=5)


def curves(axes: Axes, found: list[dict]) -> None:
    """Held-out loss on the way, averaged over the runs of an arm."""
    for name in CURVES:
        runs = np.array([record["curve"] for record in found if record["arm"] == name])
        if len(runs):
            axes.plot(runs[0, :, 0], runs[:, :, 1].mean(0), "o-", markersize=3, label=f"{name} ({len(runs)} runs)")
    axes.set(xlabel="tokens", ylabel="held-out loss, nats per token")
    axes.legend()


def histogram(axes: Axes, name: str, judged: dict) -> None:
    """Scores by kind of text, as shares of the kind; higher is better."""
    low, high = judged["histogram"]["edges"]
    for number, (kind, counts) in enumerate(judged["histogram"]["counts"].items()):
        places, style = np.linspace(low, high, len(counts)), "-" if number < 10 else "--"  # ten colours
        axes.plot(places, np.array(counts) / sum(counts), style, label=kind)
    label = "- log perplexity by kenlm" if name == "kenlm" else name
    axes.set(xlabel=f"{label} (higher is better)", ylabel="share of the rows of a kind")
    legend_above(axes, columns=6)


def legend_above(axes: Axes, columns: int) -> None:
    """Where the curves leave no room."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize="x-small", ncols=columns, columnspacing=0.9)
