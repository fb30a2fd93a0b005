"""What selection and ordering share: read columns, ask which rows in which order, copy those lines."""

import contextlib
import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_common.calls import remote_code
from data_common.calls.stage import Call
from data_common.files.atomic import draft_of
from data_common.files.manifest import Run, Versions, declared_directions
from data_common.files.replacing import check_replaceable
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.rows import jsonl
from data_common.rows.column_cache import cached_scan
from data_common.rows.columns import Column, Table, number, scan, types_of
from data_common.rows.score_join import ScoreKeys, open_scores
from data_common.rows.shards import check_apart
from data_common.rows.statistics import quantiles
from data_common.rows.write_rows import check_target, write_lines

SHOWN_GROUPS = 8
SCORES = "the scores of OUT"
WITHOUT_EFFECT = ("cache", "overwrite_out")  # keys that change nothing in the result


class UnusableRows(UserError):
    """Rows that a method cannot use whatever the others hold: what `on_bad_row` is about, and found after the scan."""

    def __init__(self, source: jsonl.Source, start: np.ndarray, reason: str):
        """start: of the rows, as in `Rows`."""
        super().__init__(f"{source.place(int(start[0]))}: {reason} ({len(start):,} such rows; on_bad_row=drop goes on)")
        self.start, self.reason = start, reason


def copy_rows(
    call: Call,
    columns: Sequence[Column],
    arrange: Callable,
    *,
    directed: Callable[[Mapping[str, str]], Mapping[str, str]],
    check: Callable[[], None],
    inputs: Mapping[str, str],
    score_field: str | None,
    score_keys: ScoreKeys | None,
    on_bad_row: jsonl.BadRowPolicy,
    rows_per_shard: int | None,
    cache: bool,
    overwrite_out: bool,
    verb: str,
    rejects: str | None = None,
    versions: Versions | None = None,
    rewrite: Callable[[bytes], bytes] | None = None,
) -> None:
    """Write the lines of IN that `arrange` asks for to OUT, and the manifest. A dry run looks at the first rows only.

    columns: what to read of each row.
    inputs: name -> path of what the result depends on beside IN.
    directed: (directions that the input's manifest declares) -> those that the call goes by, and OUT has; it may raise
        UserError.
    arrange: (source, table, directions) -> (row numbers in their new order, which may repeat, facts for the manifest);
        it may raise UserError; rows of `UnusableRows` are left out where on_bad_row allows it, and it is asked again.
    check: raises UserError for what `arrange` would refuse whatever the rows hold.
    score_field: its quantiles are reported, where there is one, and it is among the columns.
    score_keys: score files that hold some of the columns; the scores of the rows of OUT are then written beside it.
    overwrite_out: whether OUT may replace what no stage made, and what IN was made from.
    verb: what happened to the rows, for the summary ("kept", "ordered", "scheduled").
    rejects: a path for all other rows, in input order.
    rewrite: a line of OUT -> what is written in its place; None writes the lines as they are.
    versions: of further methods that the rows depend on, as `Run` has them.
    """
    source_path, target = call.paths
    check_apart(source_path, target)
    if rejects is not None:
        check_apart(source_path, rejects, "rejects")
        if Path(rejects).resolve() == Path(source_path).resolve():
            raise UserError(f"rejects={rejects} is IN: a second call would lose the rows that were kept")
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(jsonl.open_source(source_path, whole=not call.dry_run))
        shards = [shard.name for shard in source.shards]
        beside = None
        if score_keys:
            beside = stack.enter_context(open_scores(score_keys, source, score_field, on_bad_row, call.dry_run))
        declared = declared_directions(source_path, shards, quick=call.dry_run)
        directions = directed(declared | (beside.directions if beside else {}))
        config = {key: value for key, value in call.config.items() if key not in WITHOUT_EFFECT}
        run = Run(
            call.stage,
            call.method_name,
            config,
            {"data": shards, **inputs} | ({"scores": beside.paths} if beside else {}),
            target,
            beside.of_text(directions, declared) if beside else directions,
            defaults=call.defaults,
            versions=call.versions | dict(versions or {}),
            quick=call.dry_run,
            paths=call.paths,
        )
        runs = [run] if rejects is None else [run, _second(run, rejects, "rejects")]
        scores_run = beside.run_of(_second(run, beside.output(target), SCORES), directions) if beside else None
        if not call.dry_run and all(one.is_done() for one in (scores_run, *reversed(runs)) if one):
            return
        for one, name in ((run, "OUT"), *((one, "rejects") for one in runs[1:]), (scores_run, SCORES)):
            if one:
                check_target(str(one.output), None if one is scores_run else rows_per_shard)
            if one and not overwrite_out:
                check_replaceable(one.output, source_path, shards, run.input_files(), name, call.dry_run)
        check()
        columns = list(dict.fromkeys(columns))
        held, wanted = beside.split(columns) if beside else ([], columns)
        if call.dry_run:
            jsonl.first_rows(source, types_of(wanted, source), on_bad_row)
            if beside:
                beside.check(held, on_bad_row)
            return
        fingerprints = run.identity["inputs"]["data"]
        read = None if beside and beside.checked and not wanted else wanted
        table = cached_scan(source, read, on_bad_row, fingerprints) if cache else scan(source, read, on_bad_row)
        joined, entry, told = beside.join(source, table, held, on_bad_row) if beside else (table, None, {})
        table, index, facts = _arranged(arrange, source, joined, directions, on_bad_row)
        facts = _counts(table, index, score_field) | facts | told
        counts = {"rows_in": len(table)} | source.counts()

        def write(one: Run, rows: np.ndarray, facts: Mapping[str, Any], change: Callable | None = None) -> None:
            with draft_of(one.output, folder=rows_per_shard is not None) as draft:
                written = write_lines(draft, one.output.name, source, table.rows, rows, rows_per_shard, change)
                source.check_unchanged(fingerprints)
                run.check_inputs()
                if beside and one is run:
                    entries = entry[np.searchsorted(joined.rows.start, table.rows.start[rows])]
                    beside.write(scores_run, entries, draft, written | {"path": str(run.output)})
                one.finish(draft, written, **facts | counts)

        for one in runs[1:]:
            others = np.delete(np.arange(len(table)), index)
            write(one, others, {"rows_out": len(others)})
        write(run, index, facts, rewrite)
    _summary(call, verb, facts, source, run)


def _arranged(
    arrange: Callable, source: jsonl.Source, table: Table, directions: Mapping[str, str], on_bad_row: jsonl.BadRowPolicy
) -> tuple[Table, np.ndarray, dict[str, Any]]:
    """The usable rows, and what `arrange` gives for them. Raises: UserError, also where there is none."""
    while len(table):
        try:
            return table, *arrange(source, table, directions)
        except UnusableRows as unusable:
            if on_bad_row != "drop":
                raise
            source.dropped[unusable.reason] += len(unusable.start)
            table = table.take(np.flatnonzero(~np.isin(table.rows.start, unusable.start)))
    raise UserError(f"{source.path} holds no {'usable ' if source.dropped else ''}rows")


def _counts(table: Table, index: np.ndarray, score_field: str | None) -> dict[str, Any]:
    counts: dict[str, Any] = {"rows_in": len(table), "rows_out": len(index)}
    if score_field and (score := table.columns.get(number(score_field))) is not None:
        counts |= {"score_in": quantiles(score), "score_out": quantiles(score[index])}
    return counts


def _second(run: Run, path: str, name: str) -> Run:
    """The record of a further output of the same run."""
    second = copy.copy(run)
    second.output = Path(path)
    if second.output.resolve() == run.output.resolve():
        raise UserError(f"{name} and OUT are the same file: {path}")
    return second


def _tell_phase(phase: dict[str, Any]) -> None:
    shown = [f"{visible(one['group'])} {one['share']:.1%} ({one['passes']:.2f} passes)" for one in phase["groups"]]
    more = ", ..." if len(shown) > SHOWN_GROUPS else ""
    size = f"{phase['tokens']:,} tokens" if "tokens" in phase else f"{phase['rows']:,} rows"
    print(f"  phase {phase['phase']}: {size}: {', '.join(shown[:SHOWN_GROUPS])}{more}")


def _unmatched(scores: Mapping[str, Any]) -> str:
    counts = {"of no row": scores["of_no_row"], "of several rows": scores["of_several_rows"]}
    return "".join(f", {count:,} {what}" for what, count in counts.items() if count)


def _summary(call: Call, verb: str, facts: dict[str, Any], source: jsonl.Source, run: Run) -> None:
    share = facts["rows_out"] / facts["rows_in"]
    of = "from" if "copies" in facts or "schedule" in facts else "of"  # rows may be there more than once
    print(f"{call.method_name}: {verb} {facts['rows_out']:,} {of} {facts['rows_in']:,} rows ({share:.1%})")
    if not facts["rows_out"]:
        print("  warning: no row is kept, and a file without rows is read by no stage")
    if band := facts.get("band"):
        print(f"  kept: {band}")
    if source.dropped:
        print(f"  dropped {sum(source.dropped.values()):,} bad rows: {dict(source.dropped)}")
    if rewriting := facts.get("rewriting"):
        before, after = rewriting["characters"]["before"], rewriting["characters"]["after"]
        print(f"  rows: {', '.join(f'{outcome} {rows:,}' for outcome, rows in rewriting['rows'].items())}")
        print(f"  characters of text: {after:,} of {before:,} are left ({after / max(1, before):.1%})")
    if scores := facts.get("scores"):
        print(f"  scores: {scores['rows']:,}, joined by {visible(scores['joined_by'])}{_unmatched(scores)}")
    if copies := facts.get("copies"):
        print(f"  copies: {', '.join(f'{rows:,} rows {times} times' for times, rows in copies['histogram'].items())}")
    for phase in facts.get("schedule", ()):
        _tell_phase(phase)
    if groups := facts.get("groups"):
        shown = [
            f"{visible(json.dumps(one['group'], ensure_ascii=False))} {one['rows_out']:,} of {one['rows_in']:,}"
            for one in groups[:SHOWN_GROUPS]
        ]
        more = ", ..." if facts["group_count"] > SHOWN_GROUPS else ""
        print(f"  {facts['group_count']:,} groups: {', '.join(shown)}{more}")
    for side in ("in", "out"):
        if values := facts.get(f"score_{side}"):
            print(f"  score {side}: min {values['0']:.4g}, median {values['0.5']:.4g}, max {values['1']:.4g}")
    remote_code.summary(call.config)
    print(f"  wrote {visible(run.output)} in {run.seconds():.1f} s")
