"""What selection and ordering share: read the columns a method names, ask it for row numbers, copy those lines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common import jsonl
from common.cli import Call
from common.config import columns_of
from common.errors import UserError
from common.files import check_writable
from common.manifest import Run, declared_directions, quantiles

SPECIAL = ("n", "higher_is_better")  # positional parameters that are no columns of the file


def copy_rows(
    call: Call, *, score_field: str, on_bad_row: str, arguments: Callable, check: Callable, verb: str
) -> None:
    """Write the lines of IN that `call.method` asks for to OUT, and the manifest.

    arguments: (columns by name, directions of the input's manifest) -> the columns as the method gets them, with all
        that it asks for; it may raise UserError.
    check: (index, n) -> the index as it is written; raises AssertionError where the method broke its contract.
    verb: what happened to the rows, for the summary ("kept", "ordered").
    """
    source_path, target = call.paths
    with jsonl.open_source(source_path) as source:
        shards = [shard.name for shard in source.shards]
        directions = declared_directions(source_path, shards)
        run = Run(call.stage, call.method_name, call.config, {"data": shards}, target, directions)
        if run.is_done():
            return
        check_writable(Path(target))
        names = columns_of(call.method)
        fields = {name: score_field if name == "score" else name for name in names if name not in SPECIAL}
        rows = jsonl.scan(source, list(fields.values()), on_bad_row)
        if not len(rows):
            raise UserError(f"{source_path} holds no rows")
        columns = {name: rows.columns[field] for name, field in fields.items()} | {"n": len(rows)}
        columns = arguments(columns, directions)
        picked = call.method(*(columns[name] for name in names), **call.method_keys)
        index = check(np.asarray(picked, dtype=np.int64), len(rows))
        jsonl.write_lines(target, source, rows, index)
        facts = _facts(rows, index, fields.get("score"))
        run.finish(**facts, **source.counts())
    _summary(call, verb, facts, source, run)


def _facts(rows: jsonl.Rows, index: np.ndarray, score_field: str | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"rows_in": len(rows), "rows_out": len(index)}
    if score_field is not None:
        score = rows.columns[score_field]
        facts |= {"score_in": quantiles(score), "score_out": quantiles(score[index])}
    return facts


def _summary(call: Call, verb: str, facts: dict[str, Any], source: jsonl.Source, run: Run) -> None:
    share = facts["rows_out"] / facts["rows_in"]
    print(f"{call.method_name}: {verb} {facts['rows_out']:,} of {facts['rows_in']:,} rows ({share:.1%})")
    if source.dropped:
        print(f"  dropped {sum(source.dropped.values()):,} bad rows: {dict(source.dropped)}")
    for side in ("in", "out"):
        if values := facts.get(f"score_{side}"):
            print(f"  score {side}: min {values['0']:.4g}, median {values['0.5']:.4g}, max {values['1']:.4g}")
    print(f"  wrote {run.output} in {run.seconds():.1f} s")
