"""`OUT.report.html` of a selection: what was kept and what was dropped, by score, group and length, with rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_common.messages.visible import cut, visible
from data_common.reports.page import Section, Table, write_page
from data_common.reports.pictures import across, beside_names, boxes, histogram, length_axis, plain_axis, shares
from data_common.reports.sample import LISTED, PICTURED, Sample, read_sample, spread
from data_common.reports.sections import NAME, entries
from data_common.row_methods.groups import group_labels, spelled
from data_common.rows.columns import Column, number
from data_common.rows.columns import Table as Columns
from data_common.rows.jsonl import Source
from data_common.rows.statistics import quantiles

KEPT, DROPPED = "kept", "dropped"
LEGEND = {KEPT: KEPT, DROPPED: DROPPED}
GROUPS = 40  # the largest ones are shown


@dataclass(frozen=True)
class Selected:
    """The rows of a selection, at least one. kept: how often each is written, (rows,)."""

    source: Source
    table: Columns
    kept: np.ndarray
    score_field: str | None
    text_fields: Sequence[str]

    @classmethod
    def of(cls, source: Source, table: Columns, index: np.ndarray, config: Mapping[str, Any]) -> "Selected":
        """index: the numbers of the rows that are written, with repetitions. config: of the call.

        Rows are shown by the text field that the call names, else by `text`.
        """
        names = config.get("text_field") or "text"
        fields = [names] if isinstance(names, str) else names
        return cls(source, table, np.bincount(index, minlength=len(table)), config.get("score_field"), fields)

    def values(self) -> tuple[str, np.ndarray]:
        """The name of what the rows lie along, and their values: scores, or row numbers where no score was read."""
        column = number(self.score_field) if self.score_field else None
        if column in self.table.columns:
            return self.score_field, self.table.columns[column]
        return "row number", np.arange(len(self.table), dtype=float)

    def read(self, index: np.ndarray) -> Sample:
        """The rows with these numbers."""
        return read_sample(self.source, self.table.rows, index, self.text_fields)


def write_selection_page(path: Path, method: str, selected: Selected) -> None:
    """Write the page. Raises: UserError where `path` cannot be written."""
    rows, kept = len(selected.table), int((selected.kept > 0).sum())
    facts = [["rows", f"{rows:,}"], ["kept", f"{kept:,} ({kept / rows:.1%})"], ["dropped", f"{rows - kept:,}"]]
    if (copies := int(selected.kept.sum())) != kept:
        facts.append(["rows written, with copies", f"{copies:,}"])
    write_page(path, f"{method}: kept and dropped", "", Table([], facts, numeric=False), selection_sections(selected))


def selection_sections(selected: Selected) -> list[Section]:
    """Kept against dropped rows: along the score, by group, by length."""
    field, values = selected.values()
    kept = selected.kept > 0
    ascending = np.argsort(values, kind="stable")
    sample = selected.read(ascending[spread(len(values), PICTURED)])
    return [
        _along(selected, field, values, ascending),
        *_by_group(selected, sample),
        _by_length(sample, kept[sample.index]),
    ]


def _along(selected: Selected, field: str, values: np.ndarray, ascending: np.ndarray) -> Section:
    """Half of the rows that are shown are kept ones, as far as there are so many."""
    kept = selected.kept > 0
    rank = np.empty(len(values), np.int64)
    rank[ascending] = np.arange(len(values))
    halves = [ascending[kept[ascending] == which] for which in (True, False)]
    index = np.concatenate([half[spread(len(half), LISTED // 2)] for half in halves])
    index = index[np.argsort(rank[index])]
    x = plain_axis(field, values, *across())
    headings = [f"{visible(field)} {value:,.5g}" for value in values[index]]
    shown = (rank[index] / max(len(values) - 1, 1)).tolist()
    return Section(
        f"Rows by {visible(field)}",
        "Move the slider to read rows at that place; as many kept ones are shown as dropped ones.",
        [histogram({KEPT: values[kept], DROPPED: values[~kept]}, x)],
        LEGEND,
        entries=entries(
            selected.source,
            selected.read(index),
            headings,
            labels=[f"quantile {share:.3f}, {heading}" for share, heading in zip(shown, headings, strict=True)],
            x=x(values[index]),
            kinds=[KEPT if kept[row] else DROPPED for row in index],
        ),
        slider="quantile",
    )


def _by_group(selected: Selected, sample: Sample) -> list[Section]:
    """By the groups that the call knows, of all rows; else by fields of the rows that tell groups apart."""
    kept = selected.kept > 0
    known = [column for column in selected.table.columns if column.kind == "group"]
    if not known:
        return [
            _group_section(name, groups, kept[sample.index], f"{len(groups):,} rows, spread over all.")
            for name, groups in sample.groups().items()
        ]
    return [
        _group_section(column.fields[0], _names(selected, column), kept, f"All {len(kept):,} rows.") for column in known
    ]


def _names(selected: Selected, column: Column) -> np.ndarray:
    """The name of each row's group, (rows,)."""
    code = selected.table.columns[column]
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    labels = group_labels(selected.source, selected.table.rows.take(first), column)
    return np.array([spelled(label) for label in labels], object)[place]


def _group_section(name: str, groups: np.ndarray, kept: np.ndarray, words: str) -> Section:
    names, place = np.unique(groups, return_inverse=True)
    rows_in, rows_out = np.bincount(place), np.bincount(place, kept)
    largest = np.argsort(-rows_in, kind="stable")[:GROUPS]
    share = rows_out / rows_in
    shown = {names[one]: {KEPT: share[one], DROPPED: 1 - share[one]} for one in largest}
    rows = [[cut(names[n], NAME), f"{rows_in[n]:,}", f"{rows_out[n]:,.0f}", f"{share[n]:.1%}"] for n in largest]
    more = f" The {GROUPS} largest of {len(names):,} groups." if len(names) > GROUPS else ""
    table = Table(["group", "rows", "kept", "share"], rows)
    title = f"Kept and dropped by {visible(name)}"
    return Section(title, words + more, [shares(shown, "share of the group")], LEGEND, table)


def _by_length(sample: Sample, kept: np.ndarray) -> Section:
    lengths = np.maximum(sample.lengths(), 1)
    parts = {name: lengths[kept == which] for name, which in ((KEPT, True), (DROPPED, False)) if (kept == which).any()}
    found = {name: quantiles(part) for name, part in parts.items()}
    rows = [
        [name, f"{len(parts[name]):,}", *(f"{of[share]:,.0f}" for share in ("0.25", "0.5", "0.75"))]
        for name, of in found.items()
    ]
    return Section(
        "Characters of kept and dropped rows",
        f"{len(lengths):,} rows, spread over all. Line: 5 to 95 %; box: 25 to 75 %; stroke: median.",
        [boxes(parts, length_axis("characters", lengths, *beside_names()))],
        table=Table(["", "rows", "25 %", "median", "75 %"], rows),
    )
