"""Scoring: add the score of a method to every row, and change nothing else in it."""

import contextlib
import functools
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_common.calls import remote_code
from data_common.calls.cli import main, run_call
from data_common.calls.config import Key, keys_of
from data_common.calls.stage import Call, Stage
from data_common.chat.settings import TextFormat
from data_common.files.atomic import check_writable, draft_of
from data_common.files.manifest import Run, declared_directions
from data_common.files.replacing import check_replaceable
from data_common.files.work_folder import WorkFolder, check_work_dir
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.parallel import distributed
from data_common.rows import jsonl
from data_common.rows.json_line import add_fields, long_integer, replace_fields
from data_common.rows.jsonl import BadRowPolicy
from data_common.rows.shards import check_apart, compressed
from data_common.rows.texts import Texts, first_texts
from data_scoring.columns import (
    as_columns,
    check_missing,
    fill_short,
    in_words,
    missing,
    rows_of,
    statistics,
    written_fields,
)
from data_scoring.page import Scored, write_scores_page
from data_scoring.report import write_report
from data_scoring.score_file import ScoreWriter, check_score_file
from data_scoring.scorer import Better

WITHOUT_EFFECT = ("work_dir", "overwrite_out")  # keys that change nothing in the result
ShortPolicy = Literal["error", "worst", "drop"]


def run(
    call: Call,
    *,
    text_field: str | list[str] = "text",
    score_field: str = "score",
    on_short: ShortPolicy = "error",
    on_bad_row: BadRowPolicy = "error",
    overwrite: bool = False,
    work_dir: str | None = None,
    overwrite_out: bool = False,
    score_file: bool = False,
    id_field: str = "id",
    **reading: Any,
) -> None:
    """Score every row of IN. A dry run looks at the first ones, and asks the method what is wrong.

    reading: the keys of `TextFormat`.

    Args:
        text_field: text field of a row, or a list of them, joined by newlines
        score_field: field that the score is written to
        on_short: a row with no text to score stops the run, gets the worst score of the corpus, or is dropped
        on_bad_row: a broken row or one without text field stops the run, or is dropped and counted
        overwrite: true replaces the value where score_field is there already; else that is an error
        work_dir: folder of the report, and of what long work can be resumed from; null = OUT.work
        overwrite_out: true lets OUT replace a file that none of these stages made, or that IN was made from
        score_file: true writes the scores alone to OUT, and not the rows: one number a row where OUT ends in .npy, else
            JSON lines with the id and the fields of each row; selection and ordering read it by scores=OUT
        id_field: field that goes into a score file, where a row has it
    """
    scorer, text_format = call.build(), TextFormat(**reading)
    if scorer.reads_answers and text_format.text_format is None:
        raise UserError("score_tokens=answer is of rows with turns: text_format=plain or template")
    source_path, target = call.paths
    check_apart(source_path, target)
    scorer.declare()
    better = written_fields(scorer, score_field, text_field)
    absent = () if overwrite or score_file else better
    if score_file:
        check_score_file(target, source_path, better, id_field, scorer.rewrites)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(jsonl.open_source(source_path, whole=not call.dry_run))
        shards = [shard.name for shard in source.shards]
        if scorer.special is not None:
            scorer.special = text_format.special(scorer.special, shards)
        carried = declared_directions(source_path, shards, quick=call.dry_run)
        inputs = {"data": shards} | scorer.inputs() | text_format.inputs()
        config = {key: value for key, value in call.config.items() if key not in WITHOUT_EFFECT}
        history = {"defaults": call.defaults, "versions": call.versions, "quick": call.dry_run, "paths": call.paths}
        directions = {field: way for field, way in (better if score_file else carried | better).items() if way}
        stage_run = Run(call.stage, call.method_name, config, inputs, target, directions, **history)
        if not call.dry_run and stage_run.is_done():
            return
        check_writable(Path(target))
        if not overwrite_out:
            check_replaceable(Path(target), source_path, shards, stage_run.input_files(), quick=call.dry_run)
        if work_dir is not None:
            check_work_dir(Path(work_dir), stage_run.stamps)
        reader = text_format.reader(source)
        first, blank = first_texts(source, text_field, on_bad_row, absent, scorer.number_fields, reader)
        check_short(source, first, blank, on_short)
        scorer.check(rows_by_first(source, first) if call.dry_run else None, carried)
        if call.dry_run:
            return
        contents = stage_run.contents()
        contents["reading"] = [text_field, on_bad_row]
        if reader is not None:
            contents["reading"] += [text_format.spelled(), contents.get("chat_template")]
        texts = Texts(source, text_field, on_bad_row, absent, scorer.number_fields, reader)
        counts = {"rows_in": len(texts.rows)} | source.counts() | ({"format": reader.rows.name} if reader else {})
        beside = ScoreWriter(source, texts.rows, id_field) if score_file else None
        check_short(source, texts.rows, texts.blank, on_short)
        if not len(texts):
            raise UserError(f"{source_path}: no row has any text")
        fingerprints = stage_run.identity["inputs"]["data"]
        unchanged = functools.partial(source.check_unchanged, fingerprints)
        folder = WorkFolder(Path(work_dir or f"{target}.work"), contents, stage_run, unchanged)
        work = stack.enter_context(folder.locked())
        rewritten = scorer.rewrite(identified(source, texts), len(texts), work)
        if rewritten is not None:
            source = stack.enter_context(jsonl.open_source(str(rewritten)))
            texts = Texts(source, "text", absent=absent)
        found = scorer.score(texts, work)
        if found is None and scorer.stops_early:
            print(f"{call.method_name}: stopped before there are scores; {visible(work.path)} holds what was made")
            return
        columns = as_columns(scorer, found, texts, better)
        short = texts.blank | missing(columns[score_field])
        check_short(source, texts.rows, short, on_short)
        check_missing(columns, short)
        kept = np.full_like(short, True) if on_short == "worst" else ~short
        if not distributed.is_main():
            return
        if on_short == "worst":
            columns = fill_short(columns, short, better, scorer.of_short)
        written = {field: values[kept] for field, values in columns.items()}
        draft = stack.enter_context(draft_of(target))
        if beside:
            beside.write(draft, target, written, kept)
        else:
            write_scores(draft, target, source, texts.rows.take(kept), written, overwrite)
        scores = np.where(kept, columns[score_field].astype(float), np.nan)
        summary = {field: statistics(values) for field, values in written.items()}
        counts |= {"rows_scored": len(scores), "rows_out": int(kept.sum()), "short_rows": int(short.sum())}
        if counts["rows_out"] > 1 and summary[score_field]["0"] == summary[score_field]["1"]:
            scorer.warnings.append(f"all rows have the same {score_field}: nothing can be selected or ordered by it")
        report = write_report(
            work.path,
            call.method_name,
            score_field,
            scores,
            scorer.higher_is_better,
            texts.text,
            lambda row: source.place(int(texts.rows.start[row])),
            counts | scorer.facts | ({"warning": "; ".join(scorer.warnings)} if scorer.warnings else {}),
        )
        page = work.path / "report.html"
        fields = [text_field] if isinstance(text_field, str) else text_field
        write_scores_page(
            page,
            Scored(
                call.method_name,
                scorer.higher_is_better,
                source,
                texts.rows,
                fields if rewritten is None else ["text"],
                columns,
                kept,
                counts | scorer.facts,
                scorer.warnings,
            ),
        )
        extra = {field: summary[field] for field in scorer.extra_directions}
        unchanged()
        stage_run.check_inputs()
        bound = {"corpus": fingerprints, "fields": list(written)} if beside else {}
        stage_run.finish(draft, **counts, **bound, score=summary[score_field], extra=extra, facts=scorer.facts)
    _summary(call, counts, summary, better, report, stage_run)
    for warning in scorer.warnings:
        print(f"  warning: {warning}")


def rows_by_first(source: jsonl.Source, first: jsonl.Rows) -> int | None:
    """About how many rows there are, by the length of the first ones; None where compression hides it."""
    if not len(first) or any(shard.name.endswith((".gz", ".zst")) for shard in source.shards):
        return None
    return int(len(first) * source.bytes / first.end[-1])


def identified(source: jsonl.Source, texts: Texts) -> Iterator[tuple[str | int, str]]:
    """(id, text) of each row with text: its field `id`, or its number where it has none."""
    lines = (line for line, blank in zip(jsonl.raw_lines(source, texts.rows), texts.blank, strict=True) if not blank)
    for number, (line, text) in enumerate(zip(lines, texts, strict=True)):
        found = json.loads(line, parse_int=long_integer).get("id", number)
        yield found if isinstance(found, str | int) else number, text


def check_short(source: jsonl.Source, rows: jsonl.Rows, short: np.ndarray, on_short: ShortPolicy) -> None:
    """Raises UserError with the place of the first row that is too short, where that is an error."""
    if short.any() and on_short == "error":
        place = source.place(int(rows.start[np.argmax(short)]))
        raise UserError(f"{place}: no text to score ({short.sum():,} such rows; on_short=worst|drop goes on)")


def _summary(
    call: Call,
    counts: Mapping[str, Any],
    summary: Mapping[str, Mapping[str, Any]],
    better: Mapping[str, Better],
    report: Path,
    stage_run: Run,
) -> None:
    scored, short, dropped = counts["rows_scored"], counts["short_rows"], counts["dropped_rows"]
    kind = f"{counts['format']} rows" if "format" in counts else "rows"
    print(f"{call.method_name}: scored {counts['rows_out']:,} of {scored:,} {kind} ({short:,} too short)")
    if dropped:
        print(f"  dropped {sum(dropped.values()):,} bad rows: {dropped}")
    for field, values in summary.items():
        direction = f"; {better[field]} is better" if better[field] else ""
        print(f"  {visible(field)}: {visible(in_words(values))}{direction}")
    print(f"  best and worst rows: {visible(report)}, and in a browser report.html beside it")
    remote_code.summary(call.config)
    print(f"  wrote {visible(stage_run.output)} in {stage_run.seconds():.1f} s")


def write_scores(
    draft: Path,
    name: str,
    source: jsonl.Source,
    rows: jsonl.Rows,
    columns: Mapping[str, np.ndarray],
    overwrite: bool,
) -> None:
    """Write the raw lines with the columns, (rows,) each, added as fields."""
    put = replace_fields if overwrite else add_fields
    with compressed(draft, name) as out:
        for line, fields in zip(jsonl.raw_lines(source, rows), rows_of(columns), strict=True):
            out.write(put(line, fields) + b"\n")


def scoring_keys(method: Callable, given: Mapping[str, Any]) -> dict[str, Key]:
    """The keys of `run`, and how rows are read as texts."""
    return keys_of(run) | keys_of(TextFormat)


def score_texts(texts: Iterable[str], method: str, **keys: Any) -> dict[str, np.ndarray]:
    """For a notebook or a program: field -> the values of all texts, (n,), `score` first; a call on a temporary file.

    method, keys: as on the command line, with the defaults of the method's YAML; lists and mappings as Python has them.
    A text without words stops the call, unless on_short="worst"; on_short="drop" gives fewer values than texts.
    Raises: UserError as the call would print it.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "texts.jsonl"), Path(folder, "scored.jsonl")
        with open(source, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
        words = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in keys.items()]
        run_call(STAGE, [str(source), str(target), method, *words])
        rows = [json.loads(line) for line in target.read_text(encoding="utf-8").split("\n")[:-1]]
    return {field: np.array([row[field] for row in rows]) for field in rows[0] if field != "text"}


STAGE = Stage("data_scoring", ("IN.jsonl", "OUT.jsonl"), ("Scorer",), run, scoring_keys, Call.build)
command = functools.partial(main, STAGE)

if __name__ == "__main__":
    sys.exit(command())
