"""Selection: keep the rows that a method picks by their scores, in the order of the input, byte for byte."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data_common.calls.cli import main
from data_common.calls.config import Positive, keys_of
from data_common.calls.stage import Call
from data_common.reports.place import page_of
from data_common.rows.columns import Table
from data_common.rows.copy_rows import copy_rows
from data_common.rows.jsonl import BadRowPolicy, Source
from data_common.rows.score_join import ScoreKeys
from data_common.rows.shards import check_suffix
from data_selection.rewriting import REWRITE, Rewriter
from data_selection.selector import SELECTION, Selector, selector_keys


def run(
    call: Call,
    *,
    on_bad_row: BadRowPolicy = "error",
    rejects: str | None = None,
    report: bool = False,
    rows_per_shard: Positive | None = None,
    cache: bool = True,
    overwrite_out: bool = False,
    scores: str | None = None,
    id_field: str = "id",
    trust_row_numbers: bool = False,
    **choosing: Any,
) -> None:
    """Keep the rows that the method picks, copies of them, or rows with other texts.

    choosing: the keys of `selector_keys`.

    Args:
        on_bad_row: a row without a usable score stops the run, or is dropped and counted
        rejects: file for the rows that are not kept, in the order of the input; null = none
        report: true writes OUT.report.html: kept and dropped rows to look at, by score, group and length
        rows_per_shard: OUT is a folder of files with so many rows each; null = OUT is one file
        cache: keep the columns of a large file on disk, so that another call on the same file need not scan it
        overwrite_out: true lets OUT replace a file that none of these stages made, or that IN was made from
        scores: file of scores in place of fields of IN, .npy or JSON lines; a folder or glob has one for each shard;
            those of the rows of OUT are written to OUT.scores.npy or OUT.scores.jsonl
        id_field: field by which rows of IN and of scores are joined where no manifest binds the scores to IN
        trust_row_numbers: true takes the scores row by row where nothing tells that they are of this very IN
    """
    selector = chooser(call.method)(call.method, call.method_keys, **choosing)

    def pick(source: Source, table: Table, directions: Mapping[str, str]) -> tuple[np.ndarray, dict[str, Any]]:
        kept, facts = selector.pick(source, table, directions)
        if page := page_of(call.paths[1], report):
            from data_selection.page import Selected, write_selection_page  # most calls do without

            write_selection_page(page, call.method_name, Selected.of(source, table, kept, call.config))
        return kept, facts

    copy_rows(
        call,
        selector.columns(),
        pick,
        directed=selector.directions,
        check=selector.check,
        inputs=selector.files(),
        score_field=selector.score_field,
        score_keys=ScoreKeys(scores, id_field, trust_row_numbers) if scores else None,
        on_bad_row=on_bad_row,
        rows_per_shard=rows_per_shard,
        cache=cache,
        overwrite_out=overwrite_out,
        verb="kept",
        rejects=rejects,
        rewrite=selector.line if isinstance(selector, Rewriter) else None,
    )


def chooser(method: Callable) -> type[Selector | Rewriter]:
    """What applies the method to a file."""
    return Rewriter if method.__name__ == REWRITE else Selector


def check(call: Call) -> None:
    """Raises UserError where the stage or the method refuses its keys."""
    keys = {name: call.config[name] for name in selector_keys(call.method, {})}
    chooser(call.method)(call.method, call.method_keys, **keys).check_keys()
    if call.config["rejects"] is not None:
        check_suffix(call.config["rejects"], "rejects")


STAGE = dataclasses.replace(
    SELECTION,
    run=run,
    keys=lambda method, given: selector_keys(method, given) | keys_of(run),
    check=check,
)
command = functools.partial(main, STAGE)

if __name__ == "__main__":
    sys.exit(command())
