"""Pictures of a page as SVG: colours come from its style sheet, so that they are right in the light and in the dark.

Every number is rounded to a tenth of a unit, so that the same values give the same text.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from data_common.messages.visible import cut, visible
from data_common.reports.axes import Axis, data_range
from data_common.rows.statistics import quantiles

WIDTH, HEIGHT, SMALL = 720, 230, 330
LEFT, RIGHT, TOP, BOTTOM = 64, 26, 10, 42  # margins
BARS = 60
CHARACTER = 6.6  # the width of a character, about
ROW = 24  # height of a group
NAMES = 190  # width of the names of groups


def histogram(parts: Mapping[str, np.ndarray], x: Axis) -> Markup:
    """How many rows have which value; the parts, (n,) each, stacked. parts: style class -> values, at least one."""
    together = np.concatenate(list(parts.values()))
    edges = x.edges(min(BARS, math.isqrt(len(together)) + 1))
    counts = np.cumsum([np.histogram(values, edges)[0] for values in parts.values()], axis=0)
    y = Axis("rows", 0, float(counts[-1].max()) * 1.05 or 1, *upward())
    places, bars = x(edges), []
    for name, below, above in zip(parts, [np.zeros(len(edges) - 1), *counts], counts, strict=False):
        boxes = zip(places, places[1:], y(below), y(above), strict=False)
        path = "".join(
            f"M{a:.1f} {low:.1f}V{high:.1f}H{b - 0.6:.1f}V{low:.1f}z" for a, b, low, high in boxes if low > high
        )
        bars.append(Markup('<path class="bar {}" d="{}"/>').format(name, path))
    beyond = int((~x.holds(together)).sum())
    told = f"Histogram of {x.label}: {len(together):,} rows, {beyond:,} of them beyond the axis."
    return _framed(x, y, [*bars, mark(TOP, HEIGHT - BOTTOM)], told)


def points(
    x: Axis, y: Axis, parts: Mapping[str, tuple[np.ndarray, np.ndarray]], told: str, line: Sequence[np.ndarray] = ()
) -> Markup:
    """A point for each pair of values that no axis leaves out. parts: style class -> values along x, along y.

    line: the values of a curve, along x and along y.
    """
    shapes = []
    for name, (along, up) in parts.items():
        shown = x.holds(along) & y.holds(up)
        path = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x(along[shown]), y(up[shown]), strict=True))
        shapes.append(Markup('<path class="dots {}" d="{}"/>').format(name, path))
    if len(line):
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x(line[0]), y(line[1]), strict=True))
        shapes.append(Markup('<path class="line" d="M{}"/>').format(path))
    shapes.append(mark(y.end, y.begin))
    return _framed(x, y, shapes, told)


def boxes(groups: Mapping[str, np.ndarray], x: Axis) -> Markup:
    """A row for each group and its values, (n,), at least one: 5 to 95 % as a line, 25 to 75 % as a box, the median."""
    height = TOP + ROW * len(groups) + BOTTOM
    shapes = []
    for number, (name, values) in enumerate(groups.items()):
        middle = TOP + ROW * (number + 0.5)
        found = quantiles(values)
        a, b, c, d, e = x(np.array([found[share] for share in ("0.05", "0.25", "0.5", "0.75", "0.95")]))
        shapes += [
            _name(name, middle),
            Markup('<path class="whisker" d="M{:.1f} {:.1f}H{:.1f}"/>').format(a, middle, e),
            Markup('<rect class="box" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}"/>').format(
                b, middle - 7, max(d - b, 1), 14
            ),
            Markup('<path class="median" d="M{:.1f} {:.1f}v14"/>').format(c, middle - 7),
        ]
    told = f"{x.label} of {len(groups)} groups: 5 to 95 %, 25 to 75 %, median."
    return _framed(x, None, shapes, told, height)


def intervals(groups: Mapping[str, tuple[float, float, float]], x: Axis) -> Markup:
    """A row for each name: its value as a stroke, its interval as a line. groups: name -> low, value, high."""
    shapes = [Markup('<path class="axis" d="M{:.1f} {}v{}"/>').format(x(np.array(0)), TOP, ROW * len(groups))]
    for number, (name, values) in enumerate(groups.items()):
        middle = TOP + ROW * (number + 0.5)
        low, value, high = x(np.array(values))
        shapes += [
            _name(name, middle),
            Markup('<path class="whisker" d="M{:.1f} {:.1f}H{:.1f}"/>').format(low, middle, high),
            Markup('<path class="median" d="M{:.1f} {:.1f}v14"/>').format(value, middle - 7),
        ]
    told = f"{x.label} of {len(groups)}, each with an interval."
    return _framed(x, None, shapes, told, TOP + ROW * len(groups) + BOTTOM)


def shares(groups: Mapping[str, Mapping[str, float]], label: str) -> Markup:
    """A bar for each group, cut into its parts. groups: name -> style class -> share of the whole, from 0 to 1."""
    height = TOP + ROW * len(groups) + BOTTOM
    x = Axis(label, 0, 1, *beside_names())
    shapes = []
    for number, (name, parts) in enumerate(groups.items()):
        middle, begin = TOP + ROW * (number + 0.5), 0.0
        shapes.append(_name(name, middle))
        for part, share in parts.items():
            left, right = x(np.array([begin, begin + share]))
            box = '<rect class="bar {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="14"/>'
            shapes.append(Markup(box).format(part, left, middle - 7, right - left))
            begin += share
    return _framed(x, None, shapes, f"{label} of {len(groups)} groups.", height)


def plain_axis(label: str, values: np.ndarray, begin: float, end: float) -> Axis:
    """An axis for numbers, at least one."""
    return Axis(label, *data_range(values), begin, end)


def length_axis(label: str, lengths: np.ndarray, begin: float, end: float) -> Axis:
    """An axis for whole numbers of very different size, at least one and none below 1."""
    low, high = data_range(np.log10(lengths))
    return Axis(label, 10**low, 10**high, begin, end, logarithmic=True)


def across(width: float = WIDTH) -> tuple[float, float]:
    """Where the axis along a picture begins and ends."""
    return LEFT, width - RIGHT


def beside_names() -> tuple[float, float]:
    """Where the axis along a picture with names of groups begins and ends."""
    return NAMES, WIDTH - RIGHT


def upward() -> tuple[float, float]:
    """Where the axis beside a picture begins and ends."""
    return HEIGHT - BOTTOM, TOP


def mark(top: float, bottom: float) -> Markup:
    """The line that a slider moves; it is not seen before."""
    return Markup('<path class="mark" d="M0 {:.1f}V{:.1f}"/>').format(top, bottom)


def _name(name: str, middle: float) -> Markup:
    short = cut(visible(name), (NAMES - 8) / CHARACTER)
    return Markup('<text class="name" x="{}" y="{:.1f}">{}</text>').format(NAMES - 8, middle + 4, short)


def _framed(x: Axis, y: Axis | None, shapes: Sequence[Markup], told: str, height: float = HEIGHT) -> Markup:
    """A whole picture. told: for those who do not see it. y: None where rows have names instead."""
    bottom, top, width = height - BOTTOM, TOP, x.end + RIGHT
    ticks, levels = x.ticks(), y.ticks() if y else []
    grid = "".join(f"M{place:.1f} {bottom:.1f}V{top:.1f}" for place, _ in ticks)
    grid += "".join(f"M{x.begin:.1f} {place:.1f}H{x.end:.1f}" for place, _ in levels)
    numbers = "".join(
        f'<text class="middle" x="{place:.1f}" y="{bottom + 16:.1f}">{text}</text>' for place, text in ticks
    )
    numbers += "".join(
        f'<text class="end" x="{x.begin - 6:.1f}" y="{place + 4:.1f}">{text}</text>' for place, text in levels
    )
    below = Markup('<text class="middle label" x="{:.1f}" y="{:.1f}">{}</text>').format(
        (x.begin + x.end) / 2, bottom + 34, cut(visible(x.label), width / CHARACTER)
    )
    beside = Markup('<text class="middle label" transform="translate(15 {:.1f}) rotate(-90)">{}</text>').format(
        (top + bottom) / 2, cut(visible(y.label), height / CHARACTER) if y else ""
    )
    return Markup(
        '<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}"><path class="grid" d="{}"/>'
        '<path class="axis" d="M{:.1f} {:.1f}H{:.1f}"/>{}</svg>'
    ).format(
        width,
        height,
        visible(told),
        grid,
        x.begin,
        bottom,
        x.end,
        Markup(numbers) + below + beside + Markup("").join(shapes),
    )
