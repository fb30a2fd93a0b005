"""Scoring: add the score of a method to every row, and change nothing else in it."""

import sys
from pathlib import Path
from typing import Literal

import numpy as np

from common import jsonl
from common.cli import Call, Stage, main
from common.errors import UserError
from common.files import check_writable
from common.json_line import add_field, replace_field
from common.jsonl import BadRowPolicy
from common.manifest import Run, declared_directions, quantiles
from common.texts import Texts

ShortPolicy = Literal["error", "worst", "drop"]


def run(
    call: Call,
    *,
    text_field: str | list[str] = "text",
    score_field: str = "score",
    on_short: ShortPolicy = "error",
    on_bad_row: BadRowPolicy = "error",
    overwrite: bool = False,
) -> None:
    """Score every row of IN.

    Args:
        text_field: text field of a row, or a list of them, joined by newlines
        score_field: field that the score is written to
        on_short: a row with no text to score stops the run, gets the worst score of the corpus, or is dropped
        on_bad_row: a broken row or one without text field stops the run, or is dropped and counted
        overwrite: true replaces the value where score_field is there already; else that is an error
    """
    scorer = call.method(**call.method_keys)
    source_path, target = call.paths
    better = "higher" if scorer.higher_is_better else "lower"
    with jsonl.open_source(source_path) as source:
        shards = [shard.name for shard in source.shards]
        directions = declared_directions(source_path, shards) | {score_field: better}
        inputs = {"data": shards} | scorer.inputs()
        stage_run = Run(call.stage, call.method_name, call.config, inputs, target, directions)
        if stage_run.is_done():
            return
        check_writable(Path(target))
        texts = Texts(source, text_field, on_bad_row, absent=None if overwrite else score_field)
        check_short(source, texts.rows, texts.blank, on_short)
        if not len(texts):
            raise UserError(f"{source_path}: no row has any text")
        scores = np.full(len(texts.rows), np.nan)
        scores[~texts.blank] = scorer.score(texts)
        assert not np.isinf(scores).any(), "the scorer gave an infinite score"
        short = np.isnan(scores)
        check_short(source, texts.rows, short, on_short)
        scores[short] = np.nan if on_short == "drop" else worst(scores[~short], scorer.higher_is_better)
        write_scores(target, source, texts.rows, scores, score_field, overwrite)
        kept = scores[~np.isnan(scores)]
        facts = {"rows_in": len(scores), "rows_out": len(kept), "short_rows": int(short.sum())}
        stage_run.finish(**facts, score=quantiles(kept), **source.counts())
    print(f"{call.method_name}: scored {len(kept):,} of {len(scores):,} rows ({facts['short_rows']:,} too short)")
    if source.dropped:
        print(f"  dropped {sum(source.dropped.values()):,} bad rows: {dict(source.dropped)}")
    values = quantiles(kept)
    print(f"  {score_field}: min {values['0']:.4g}, median {values['0.5']:.4g}, max {values['1']:.4g}")
    print(f"  {better} is better; wrote {target} in {stage_run.seconds():.1f} s")


def check_short(source: jsonl.Source, rows: jsonl.Rows, short: np.ndarray, on_short: ShortPolicy) -> None:
    """Raises UserError with the place of the first row that is too short, where that is an error."""
    if short.any() and on_short == "error":
        place = source.place(int(rows.start[np.argmax(short)]))
        raise UserError(f"{place}: no text to score ({short.sum():,} such rows; on_short=worst|drop goes on)")


def worst(scores: np.ndarray, higher_is_better: bool) -> float:
    """The worst of the scores. Raises UserError where there are none."""
    if not len(scores):
        raise UserError("no row has a text that can be scored")
    return scores.min() if higher_is_better else scores.max()


def write_scores(
    target: str, source: jsonl.Source, rows: jsonl.Rows, scores: np.ndarray, field: str, overwrite: bool
) -> None:
    """Write the raw lines with their score added; rows whose score is NaN are left out."""
    put = replace_field if overwrite else add_field
    with jsonl.open_output(target) as out:
        for line, score in zip(jsonl.raw_lines(source, rows), scores.tolist(), strict=True):
            if score == score:
                out.write(put(line, field, score) + b"\n")


STAGE = Stage("data_scoring", ("IN.jsonl", "OUT.jsonl"), "Scorer", run)

if __name__ == "__main__":
    sys.exit(main(STAGE))
