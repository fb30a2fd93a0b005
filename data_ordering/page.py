"""`OUT.report.html` of an order: the picture of the order with rows at their places, and what moves along it."""

from pathlib import Path

import numpy as np

from data_common.messages.visible import visible
from data_common.reports.axes import Axis
from data_common.reports.page import Section, Table, write_page
from data_common.reports.pictures import across, length_axis, plain_axis, points, upward
from data_common.reports.sample import LISTED, PICTURED, Sample, spread
from data_common.reports.sections import against_numbers, by_group, entries
from data_ordering.plot import thinned
from data_selection.page import Selected, selection_sections


def write_order_page(path: Path, method: str, selected: Selected, index: np.ndarray) -> None:
    """Write the page. index: row numbers in their new order, (n,), at least one; they may repeat.

    selected: the rows of the input, of which some may not be in the order. Raises: UserError as `write_page`.
    """
    place = spread(len(index), PICTURED)
    sample, position = selected.read(index[place]), place.astype(float)
    facts = [["rows read", f"{len(selected.table):,}"], ["rows written", f"{len(index):,}"]]
    some = [] if selected.kept.all() else selection_sections(selected)
    write_page(
        path,
        f"{method}: the order",
        "",
        Table([], facts, numeric=False),
        [
            _order(selected, index),
            _lengths(sample, position),
            *by_group(sample, "position", position),
            against_numbers(sample, "position", position),
            *some,
        ],
    )


def _order(selected: Selected, index: np.ndarray) -> Section:
    field, values = selected.values()
    ordered = values[index]
    position, value, mean = thinned(ordered)
    place = spread(len(index), LISTED)
    x, y = _positions(len(index)), plain_axis(field, value, *upward())
    headings = [f"{visible(field)} {one:,.5g}" for one in ordered[place]]
    labels = [f"row {one + 1:,} of {len(index):,}, {heading}" for one, heading in zip(place, headings, strict=True)]
    return Section(
        f"{visible(field)} along the order",
        "Points are rows, the line is the moving mean. Move the slider to read rows at that place.",
        [points(x, y, {"": (position, value)}, f"{field} against the position", line=(position, mean))],
        entries=entries(
            selected.source, selected.read(index[place]), headings, labels=labels, x=x(place.astype(float))
        ),
        slider="position",
    )


def _lengths(sample: Sample, position: np.ndarray) -> Section:
    lengths = np.maximum(sample.lengths(), 1)
    x, y = _positions(int(position[-1]) + 1), length_axis("characters", lengths, *upward())
    picture = points(x, y, {"": (position, lengths)}, "characters against the position")
    return Section("Length along the order", f"{len(lengths):,} rows, spread over all.", [picture])


def _positions(n: int) -> Axis:
    """The axis of the places of n rows."""
    return plain_axis("position in the file", np.array([0.0, n - 1.0]), *across())
