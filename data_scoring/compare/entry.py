"""Comparison of two scores of the same rows: overlap of the best, rank correlation, and where they disagree.

bash data_scoring/compare.sh A.jsonl B.jsonl [RESULT.html] [key=value ...]
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from data_common.calls.config import describe, keys_of, pairs, resolve
from data_common.files.atomic import check_writable
from data_common.files.manifest import declared_directions
from data_common.messages.commands import IN_REPOSITORY
from data_common.messages.errors import UserError, exit_code
from data_common.messages.terminal import detach_input, say
from data_common.messages.visible import in_table, visible
from data_common.rows.direction import higher_is_better
from data_common.rows.jsonl import BadRowPolicy, Source, open_source
from data_common.rows.statistics import spearman

if TYPE_CHECKING:
    from data_common.reports.page import Table
    from data_scoring.compare.sides import Side

COMMAND = "bash data_scoring/compare.sh" if IN_REPOSITORY else "data-scoring-compare"
USAGE = f"usage: {COMMAND} A.jsonl B.jsonl [RESULT.html] [key=value ...]"
RESULT = "score-comparison.html"
SUFFIX = ".html"
Direction = Literal["auto", "higher", "lower"]


def compare(
    paths: Sequence[str],
    result: str,
    *,
    score_field: str = "score",
    other_field: str | None = None,
    direction: Direction = "auto",
    other_direction: Direction = "auto",
    r: list[Annotated[float, Meta(gt=0, lt=1)]] = [0.1, 0.25, 0.5],  # noqa: B006 - never changed
    text_field: str | list[str] = "text",
    group_field: str | None = None,
    on_bad_row: BadRowPolicy = "error",
) -> None:
    """Print how far two scores of the same rows agree, and write a page with the rows on which they disagree.

    Args:
        score_field: field of the score in A; a dot steps into an object, as in meta.score
        other_field: field of the score in B; null = as in A. With two fields of one file A alone is named
        direction: which scores of A are better; auto takes it from the manifest of A, or from the method that the field
            is named after
        other_direction: the same for B
        r: shares of the rows; of each the best ones by both scores are compared
        text_field: text field of a row, or a list of them: rows of A and B with one text are one row
        group_field: field of A with a text, number or boolean, e.g. a source: agreement in each group; null = none
        on_bad_row: a row without a usable score or text stops the run, or is dropped and counted

    Raises: UserError for files without rows in common, scores without a direction, and bad rows.
    """
    from data_scoring.compare import page
    from data_scoring.compare.agreement import by_group, overlaps, rank_difference
    from data_scoring.compare.sides import matched, read_side

    fields, text_fields = (score_field, other_field or score_field), _listed(text_field)
    _check_words(paths, result, fields, text_fields, group_field)
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(open_source(path)) for path in (paths[0], paths[-1])]
        ways = list(map(_is_higher, sources, fields, (direction, other_direction), ("", "other_")))
        read = [
            read_side(name, source, field, text_fields, group, on_bad_row)
            for name, source, field, group in zip(
                _names(paths, fields), sources, fields, (group_field, None), strict=True
            )
        ]
        one, other = matched(*read)
        if not len(one.rows):
            raise UserError(f"{paths[0]} and {paths[-1]} have no text in common")
        mine, others = (side.score if way else -side.score for side, way in zip((one, other), ways, strict=True))
        facts = _facts(read, len(mine), spearman(mine, others))
        tables = {"Overlap of the best rows": page.overlap_table(overlaps(mine, others, r))}
        if group_field:
            agreement = by_group(mine, others, one.group, max(r))
            tables[f"Agreement by {visible(group_field)}"] = page.group_table(agreement, (one.name, other.name), max(r))
        difference = rank_difference(mine, others)
        page.write_comparison_page(Path(result), one, other, difference, text_fields, facts, tables)
    print("\n".join(f"{visible(name)}: {value}" for name, value in facts))
    for title, table in tables.items():
        print(f"\n{title}\n\n{_markdown(table)}")
    print(f"\nwrote {visible(result)}")


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


def _check_words(
    paths: Sequence[str], result: str, fields: Sequence[str], text_fields: Sequence[str], group_field: str | None
) -> None:
    """Raises UserError for words that do not go together."""
    if len(paths) == 1 and fields[0] == fields[1]:
        raise UserError(f"B.jsonl is missing, or other_field=FIELD for another score in A; {USAGE}")
    if taken := [field for field in (*fields, group_field) if field in text_fields]:
        raise UserError(f"text_field={taken[0]} is a score or a group too: rows are known by their text")
    check_writable(Path(result))


def _facts(read: "Sequence[Side]", rows: int, correlation: float | None) -> list[list[str]]:
    """What is told first. read: both files; rows: those that both have."""
    facts = [["rows in both files", f"{rows:,}"]]
    facts += [[f"only in {side.name}", f"{len(side.rows) - rows:,}"] for side in read]
    facts += [
        [f"dropped rows of {side.name}", f"{sum(side.source.dropped.values()):,}"]
        for side in read
        if side.source.dropped
    ]
    return [*facts, ["Spearman", "one score is constant" if correlation is None else f"{correlation:.4f}"]]


def _is_higher(source: Source, field: str, direction: str, prefix: str) -> bool:
    """Whether higher scores are better. Raises: UserError where nothing tells."""
    declared = declared_directions(source.path, [shard.name for shard in source.shards])
    return higher_is_better(field, direction, declared, f"{prefix}direction=higher or {prefix}direction=lower")


def _names(paths: Sequence[str], fields: Sequence[str]) -> list[str]:
    """What tells the two scores apart: the fields, where these differ, else the files."""
    if fields[0] != fields[1]:
        return list(fields)
    names = [Path(path).name for path in paths]
    return names if names[0] != names[1] else list(paths)


def _markdown(table: "Table") -> str:
    rows = [table.head, ["---", *("---:" for _ in table.head[1:])], *table.rows]
    return "\n".join(f"| {' | '.join(map(in_table, row))} |" for row in rows)


def run(words: list[str]) -> None:
    """The command line. Raises: UserError."""
    if not words or "--help" in words or "-h" in words:
        say(f"{USAGE}\n\n{compare.__doc__.split(chr(10))[0]}\n\nkeys:\n{describe(keys_of(compare))}")
        return
    if unknown := [word for word in words if word.startswith("-")]:
        raise UserError(f"unknown option {unknown[0]}: the only option is --help, all else is a path or key=value")
    paths = [word for word in words if "=" not in word or os.path.exists(word)]
    overrides = pairs(word for word in words if word not in paths)
    result = paths.pop() if paths and paths[-1].endswith(SUFFIX) else RESULT
    if not paths:
        raise UserError(f"A.jsonl is missing; {USAGE}")
    if len(paths) > 2:
        raise UserError(f"{paths[2]}: two files are compared, and a RESULT ends with {SUFFIX}; {USAGE}")
    compare(paths, result, **resolve(keys_of(compare), None, overrides))


def command() -> int:
    """Run the words of this process; returns the exit code."""
    detach_input(sys.argv[1:])
    return exit_code(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(command())
