"""The page of a comparison: where two scores disagree, with rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data_common.messages.visible import cut, visible
from data_common.reports.page import Section, Table, write_page
from data_common.reports.pictures import across, histogram, plain_axis, points, upward
from data_common.reports.sample import LISTED, PICTURED, Sample, read_sample, spread
from data_common.reports.sections import NAME, against_length, by_group, entries
from data_common.rows.statistics import ranks
from data_scoring.compare.agreement import GroupAgreement, Overlap
from data_scoring.compare.sides import Side

ENDS = 15  # rows on which the scores disagree most, at each end
GROUPS = 40
DIFFERENCE = "difference in rank"


def overlap_table(found: Sequence[Overlap]) -> Table:
    """Overlap of the best rows, beside that of two random choices."""
    rows = [[f"{o.r:g}", f"{o.rows:,}", f"{o.both:,}", f"{o.both / max(o.rows, 1):.1%}", f"{o.r:.1%}"] for o in found]
    return Table(["best share r", "rows", "in both", "overlap", "by chance"], rows)


def group_table(found: Sequence[GroupAgreement], names: Sequence[str], r: float) -> Table:
    """Agreement in each group. names: of the two scores."""
    head = ["group", "rows", "Spearman", *(f"among the best {r:g} by {cut(name, NAME)}" for name in names)]
    rows = [
        [
            cut(one.name, NAME),
            f"{one.rows:,}",
            "" if one.spearman is None else f"{one.spearman:.3f}",
            f"{one.best_by_one:.1%}",
            f"{one.best_by_other:.1%}",
        ]
        for one in found[:GROUPS]
    ]
    return Table(head, rows)


def write_comparison_page(
    path: Path,
    one: Side,
    other: Side,
    difference: np.ndarray,
    text_fields: Sequence[str],
    facts: Sequence[Sequence[str]],
    tables: Mapping[str, Table],
) -> None:
    """Write the page. one, other: the same rows, at least one. difference: `rank_difference` of them, (n,).

    tables: title -> content. Raises: UserError as `write_page`.
    """
    compared = _Compared(one, other, difference, text_fields)
    ascending = np.argsort(difference, kind="stable")
    sample = compared.read(ascending[spread(len(ascending), PICTURED)])
    values = difference[sample.index]
    write_page(
        path,
        f"{one.name} against {other.name}",
        "A rank is the share of the rows that are worse: 0 is the worst row, 1 the best.",
        Table([], facts, numeric=False),
        [
            *(Section(title, table=table) for title, table in tables.items()),
            _ranks(one, other, sample.index),
            compared.along(ascending),
            compared.end(f"Rows that {visible(one.name)} puts highest above {visible(other.name)}", ascending[::-1]),
            compared.end(f"Rows that {visible(other.name)} puts highest above {visible(one.name)}", ascending),
            against_length(sample, DIFFERENCE, values),
            *by_group(sample, DIFFERENCE, values),
        ],
    )


class _Compared:
    """Rows with both scores, and their entries on the page."""

    def __init__(self, one: Side, other: Side, difference: np.ndarray, text_fields: Sequence[str]):
        self.one, self.other, self.difference, self.text_fields = one, other, difference, text_fields

    def read(self, index: np.ndarray) -> Sample:
        """The rows with these numbers."""
        return read_sample(self.one.source, self.one.rows, index, self.text_fields)

    def headings(self, index: np.ndarray) -> list[str]:
        """Both scores of each row, as they stand in the files."""
        pairs = zip(self.one.score[index], self.other.score[index], strict=True)
        names = visible(self.one.name), visible(self.other.name)
        return [f"{names[0]} {mine:.5g} · {names[1]} {others:.5g}" for mine, others in pairs]

    def along(self, ascending: np.ndarray) -> Section:
        """Rows from one end of the disagreement to the other."""
        index = ascending[spread(len(ascending), LISTED)]
        x = plain_axis(DIFFERENCE, self.difference, *across())
        return Section(
            "Rows by how far the scores disagree",
            f"To the right are rows that {visible(self.one.name)} puts higher. Move the slider to read rows there.",
            [histogram({"": self.difference}, x)],
            entries=entries(
                self.one.source,
                self.read(index),
                self.headings(index),
                labels=[f"{DIFFERENCE} {one:+.3f}" for one in self.difference[index]],
                x=x(self.difference[index]),
            ),
            slider=DIFFERENCE,
        )

    def end(self, title: str, ordered: np.ndarray) -> Section:
        """The first rows of an order."""
        index = ordered[:ENDS]
        return Section(title, entries=entries(self.one.source, self.read(index), self.headings(index)))


def _ranks(one: Side, other: Side, index: np.ndarray) -> Section:
    whole = np.array([0.0, 1.0])
    x, y = plain_axis(f"rank by {one.name}", whole, *across()), plain_axis(f"rank by {other.name}", whole, *upward())
    pairs = (ranks(one.score)[index], ranks(other.score)[index])
    picture = points(x, y, {"": pairs}, f"ranks by {one.name} and by {other.name}")
    return Section("Ranks of the rows by both scores", f"{len(index):,} rows, spread over all.", [picture])
