"""`report.html`: the scores of a corpus with its rows, for the eye."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_common.messages.visible import brief, visible
from data_common.reports.page import Section, Table, write_page
from data_common.reports.pictures import across, histogram, plain_axis, shares
from data_common.reports.sample import LISTED, PICTURED, Sample, read_sample, spread
from data_common.reports.sections import against_length, against_numbers, by_group, entries
from data_common.rows.jsonl import Rows, Source
from data_common.rows.statistics import quantiles
from data_scoring.columns import kind_of, statistics

ENDS = 10  # best and worst rows
FACT = 400  # characters of a value among the facts
VALUES = 30  # of a field of words


@dataclass(frozen=True)
class Scored:
    """A corpus with its scores. columns: the score first, (rows,) each; kept: which rows are written."""

    method: str
    higher_is_better: bool | None
    source: Source
    rows: Rows
    text_fields: Sequence[str]
    columns: Mapping[str, np.ndarray]
    kept: np.ndarray
    facts: Mapping[str, Any]
    warnings: Sequence[str]

    @property
    def field(self) -> str:
        """That of the score."""
        return next(iter(self.columns))


def write_scores_page(path: Path, scored: Scored) -> None:
    """Write the page. At least one row has a score. Raises: UserError where `path` cannot be written."""
    score = scored.columns[scored.field].astype(float)
    usable = np.flatnonzero(scored.kept & ~np.isnan(score))
    ascending = usable[np.argsort(score[usable], kind="stable")]
    rank = spread(len(ascending), PICTURED)
    sample = _read(scored, ascending[rank])
    values = score[sample.index]
    better = {True: "higher is better", False: "lower is better", None: "neither end is better"}
    write_page(
        path,
        f"{scored.method}: {visible(scored.field)}",
        f"{better[scored.higher_is_better]}. {len(usable):,} of {len(score):,} rows have a score.",
        _facts(scored, score[usable]),
        [
            _distribution(scored, score[usable], sample, rank / max(len(ascending) - 1, 1)),
            *_ends(scored, score, ascending),
            against_length(sample, scored.field, values),
            *by_group(sample, scored.field, values),
            against_numbers(sample, scored.field, values),
            *_words(scored),
        ],
    )


def _read(scored: Scored, index: np.ndarray) -> Sample:
    sample = read_sample(scored.source, scored.rows, index, scored.text_fields)
    return sample.with_fields(scored.columns)


def _facts(scored: Scored, values: np.ndarray) -> Table:
    told = [[key.replace("_", " "), brief(_spelled(value), FACT)] for key, value in scored.facts.items() if value]
    warnings = [["warning", warning] for warning in scored.warnings]
    shares = ", ".join(f"{float(share):.0%}: {value:.5g}" for share, value in quantiles(values).items())
    moments = [["mean, deviation", f"{values.mean():.5g}, {values.std():.5g}"], ["quantiles", shares]]
    return Table([], [*warnings, *moments, *told], numeric=False)


def _spelled(value: Any) -> str:
    """A fact in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_spelled(one)}" for key, one in value.items())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
    return str(value)


def _distribution(scored: Scored, values: np.ndarray, sample: Sample, shares: np.ndarray) -> Section:
    """shares: the quantile at which each row of the sample lies, (m,)."""
    chosen = spread(len(sample.rows), LISTED)
    x = plain_axis(scored.field, values, *across())
    some, of = sample.take(chosen), _scores(scored, sample)[chosen]
    headings = [f"{visible(scored.field)} {value:.5g}" for value in of]
    labels = [f"quantile {share:.3f}, {heading}" for share, heading in zip(shares[chosen], headings, strict=True)]
    return Section(
        "Rows from the lowest to the highest score",
        "Move the slider to read rows at that place of the distribution.",
        [histogram({"": values}, x)],
        entries=entries(scored.source, some, headings, labels=labels, x=x(of)),
        slider="quantile",
    )


def _ends(scored: Scored, score: np.ndarray, ascending: np.ndarray) -> list[Section]:
    """The rows at both ends, the better end first."""
    names = ("The {} highest rows", "The {} lowest rows")
    if scored.higher_is_better is not None:
        names = ("The {} best rows", "The {} worst rows")
    best_first = ascending if scored.higher_is_better is False else ascending[::-1]
    found = []
    for name, index in zip(names, (best_first[:ENDS], best_first[::-1][:ENDS]), strict=True):
        headings = [f"{visible(scored.field)} {value:.5g}" for value in score[index]]
        sample = _read(scored, index)
        found.append(Section(name.format(len(index)), entries=entries(scored.source, sample, headings)))
    return found


def _words(scored: Scored) -> list[Section]:
    """How many rows have which value of each further field of strings or booleans, as the reasons to drop a page."""
    found = []
    for name, column in list(scored.columns.items())[1:]:
        told = statistics(column[scored.kept]) if kind_of(column) in ("string", "boolean") else {"distinct": 0}
        if told["distinct"] < 2:
            continue
        counts = {str(value) or "empty": count for value, count in list(told["rows"].items())[:VALUES]}
        shown = {value: count / scored.kept.sum() for value, count in counts.items()}
        more = f" The {len(counts)} most frequent of {told['distinct']:,} values." if told["distinct"] > VALUES else ""
        picture = shares({value: {"": share} for value, share in shown.items()}, "share of the rows")
        rows = [[brief(value, FACT), f"{counts[value]:,}", f"{share:.2%}"] for value, share in shown.items()]
        table = Table(["value", "rows", "share"], rows)
        found.append(Section(f"Rows by {visible(name)}", f"All rows.{more}", [picture], table=table))
    return found


def _scores(scored: Scored, sample: Sample) -> np.ndarray:
    return scored.columns[scored.field][sample.index].astype(float)
