"""Parts of a page that several stages show: rows along a number, and what that number goes along with."""

from collections.abc import Iterable, Sequence

import numpy as np

from data_common.messages.visible import cut, visible
from data_common.reports.page import Entry, Section, Table
from data_common.reports.pictures import SMALL, across, beside_names, boxes, length_axis, plain_axis, points, upward
from data_common.reports.sample import Sample
from data_common.rows.jsonl import Source
from data_common.rows.statistics import quantiles, spearman

PANELS = 8  # small pictures beside each other
GROUP_FIELDS = 4
NAME = 36  # characters of a name


def entries(
    source: Source,
    sample: Sample,
    headings: Sequence[str],
    *,
    labels: Iterable[str] | None = None,
    x: np.ndarray | None = None,
    kinds: Sequence[str] | None = None,
) -> list[Entry]:
    """The rows of a sample, (m,), as entries; each of the others is (m,) too, or left out, as `Entry` has it."""
    count = len(sample.rows)
    places = source.places([row.start for row in sample.rows])
    columns = [sample.rows, places, headings]
    columns += [kinds or [""] * count, labels or [""] * count, np.zeros(count) if x is None else x.tolist()]
    return [Entry(*values) for values in zip(*columns, strict=True)]


def against_length(sample: Sample, field: str, values: np.ndarray) -> Section:
    """A number of each row of a sample, (m,), against the length of its text."""
    lengths = np.maximum(sample.lengths(), 1)
    x, y = length_axis("characters", lengths, *across()), plain_axis(field, values, *upward())
    picture = points(x, y, {"": (lengths, values)}, f"{field} against characters")
    return Section(f"{visible(field)} against length", _correlation(values, lengths, len(values)), [picture])


def against_numbers(sample: Sample, field: str, values: np.ndarray) -> Section:
    """A number of each row of a sample, (m,), against the other numbers of the rows: those that it goes along with."""
    found = {}
    for name, others in sample.numbers().items():
        both = ~np.isnan(others)
        if name != field and (correlation := spearman(values[both], others[both])) is not None:
            found[name] = (correlation, both)
    chosen = sorted(found, key=lambda name: (-abs(found[name][0]), name))[:PANELS]
    pictures = []
    for name in chosen:
        correlation, both = found[name]
        others = sample.numbers()[name][both]
        x = plain_axis(f"{cut(name, NAME)}: {correlation:+.2f}", others, *across(SMALL))
        y = plain_axis(field, values[both], *upward())
        pictures.append(points(x, y, {"": (others, values[both])}, f"{field} against {name}"))
    which = "" if len(found) <= PANELS else f" The {PANELS} of {len(found)} numbers with which it goes along the most."
    words = f"{len(values):,} rows. Beside each name: Spearman's rank correlation.{which}"
    return Section(f"{visible(field)} against the other numbers of the rows", words, pictures)


def by_group(sample: Sample, field: str, values: np.ndarray) -> list[Section]:
    """A number of each row of a sample, (m,), in the groups of each field that tells groups apart."""
    sections = []
    for name, groups in list(sample.groups().items())[:GROUP_FIELDS]:
        of = {group: values[groups == group] for group in dict.fromkeys(groups)}
        of = dict(sorted(of.items(), key=lambda one: -quantiles(one[1])["0.5"]))
        rows = [[cut(group, NAME), f"{len(one):,}", *_quartiles(one)] for group, one in of.items()]
        sections.append(
            Section(
                f"{visible(field)} by {visible(name)}",
                f"{len(values):,} rows. Line: 5 to 95 % of a group; box: 25 to 75 %; stroke: median.",
                [boxes(of, plain_axis(field, values, *beside_names()))],
                table=Table(["group", "rows", "25 %", "median", "75 %"], rows),
            )
        )
    return sections


def _quartiles(values: np.ndarray) -> list[str]:
    found = quantiles(values)
    return [f"{found[share]:.5g}" for share in ("0.25", "0.5", "0.75")]


def _correlation(one: np.ndarray, other: np.ndarray, rows: int) -> str:
    found = spearman(one, other)
    return f"{rows:,} rows" + ("." if found is None else f"; Spearman {found:.2f}.")
