"""Figures of the study: the contrasts, both kinds of text against each other, a page with ratios, folds and curves."""

import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
NAMED = {  # arm -> its name in the figure of both kinds of text, colour, place of the name in points
    "lqs50": ("better half by lqs", "tab:blue", (6, -14)),
    "kenlm50": ("better half by kenlm", "tab:blue", (8, -14)),
    "ranksum50": ("better half by both", "tab:blue", (8, 6)),
    "random50": ("a random half", "tab:blue", (12, 12)),
    "lqs-sorting": ("all rows, sorted by lqs", "tab:orange", (8, 8)),
    "lqs-folding": ("all rows, folded by lqs", "tab:orange", (-30, 30)),
    "lqs-last-half": ("all rows, better half last", "tab:orange", (-156, 8)),
    "lqs50-folding": ("better half by lqs, folded", "tab:green", (-80, -40)),
}
WORDS = (
    "NAME50: the half of the rows with the better score by NAME; random50: a random half; shuffle: all rows in random "
    "order;\nNAME-sorting, NAME-folding: all rows in that order by NAME;\njunk-last: planted junk at the end; "
    "no-junk: without it"
)
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
    sheet.supxlabel(WORDS, fontsize="small")
    return sheet


def trade(plan: Plan, measured: dict[str, Measure]) -> Figure:
    """Arms by their differences from `shuffle` on both kinds of text: those of NAMED with their names, others in grey.

    Arms that train in another way are left out; so are those that are more than FAR worse on either text.
    """
    sheet = Figure(figsize=(9, 7), layout="constrained")
    axes = sheet.subplots()
    far = 0
    for name, arm in plan.arms.items():
        both = [measured[kind].fit.difference(name, "shuffle") for kind in (TARGET, GENERAL)]
        if arm.training or not all(both) or name == "shuffle":
            continue
        if max(one.value for one in both) > FAR:
            far += 1
            continue
        (x, y), (wide, high) = zip(*((one.value, one.margin) for one in both), strict=True)
        if name not in NAMED:
            axes.plot(x, y, "o", color="lightgrey", markersize=4, zorder=1)
            continue
        label, colour, offset = NAMED[name]
        axes.errorbar(x, y, xerr=wide, yerr=high, fmt="o", color=colour, linewidth=1, capsize=3)
        axes.annotate(label, (x, y), textcoords="offset points", xytext=offset, color=colour)
    for line in (axes.axhline, axes.axvline):
        line(0, color="black", linewidth=0.8)
    axes.annotate("all rows in random order", (0, 0), textcoords="offset points", xytext=(6, -14))
    axes.set(xlabel=f"{TARGET} text: bits per byte against random order, left = better")
    axes.set(ylabel=f"{GENERAL} text: bits per byte against random order, lower = better")
    axes.set_title(f"grey: further arms; not shown: {far} that are more than {FAR:g} worse", fontsize="small")
    axes.margins(0.12)
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
            spread(axes, name, scores[name])
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


def spread(axes: Axes, name: str, judged: dict) -> None:
    """Of each kind of text where its rows lie: the middle 80 % and the median, the best kind on top."""
    low, high = judged["histogram"]["edges"]
    ends = {}
    for kind, counts in judged["histogram"]["counts"].items():
        share = np.cumsum(counts) / sum(counts)
        ends[kind] = [np.linspace(low, high, len(counts))[np.searchsorted(share, part)] for part in (0.1, 0.5, 0.9)]
    kinds = sorted(ends, key=lambda kind: ends[kind][1])
    for place, kind in enumerate(kinds):
        begin, middle, end = ends[kind]
        axes.plot([begin, end], [place, place], color="tab:blue", linewidth=4, alpha=0.4, solid_capstyle="butt")
        axes.plot(middle, place, "o", color="tab:blue")
    axes.set_yticks(range(len(kinds)), kinds)
    label = "- log perplexity by kenlm" if name == "kenlm" else name
    axes.set(xlabel=f"{label} (higher is better)\nmedian and middle 80 % of the rows")
    axes.grid(axis="x", alpha=0.3)


def legend_above(axes: Axes, columns: int) -> None:
    """Where the curves leave no room."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize="x-small", ncols=columns, columnspacing=0.9)
