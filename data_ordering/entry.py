"""Ordering: write the same rows, byte for byte, in the order that a method gives them; on request, of a selection."""

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from data_common.calls.cli import main
from data_common.calls.config import Key, Positive, Seed, columns_of, keys_of
from data_common.calls.stage import Call, Stage, versions_of
from data_common.files.manifest import read_manifest
from data_common.messages.errors import UserError
from data_common.rows.columns import Table, number
from data_common.rows.copy_rows import check_keys, copy_rows, row_numbers
from data_common.rows.jsonl import BadRowPolicy, Source
from data_ordering.patterns import shuffled_in_windows
from data_ordering.plot import draw
from data_selection.selector import load_selector, prefixed_keys


def run(
    call: Call,
    *,
    score_field: str = "score",
    window_size: Annotated[int, Meta(ge=0)] = 0,
    seed: Seed = 0,
    plot: bool = False,
    select: str | None = None,
    on_bad_row: BadRowPolicy = "error",
    rows_per_shard: Positive | None = None,
    cache: bool = True,
    overwrite_out: bool = False,
    **selecting: Any,
) -> None:
    """Write the rows in the order of the method. selecting: the keys `select.KEY`.

    Args:
        score_field: field of the score; a dot steps into an object, as in meta.score
        window_size: shuffle the rows inside consecutive windows of so many rows after ordering; 0 or 1 = off
        seed: of the random generator that shuffles in windows
        plot: true draws the score against the position to OUT.png
        select: selection method to apply first, in the same call; select.KEY=... sets its keys
        on_bad_row: a row without a usable score stops the run, or is dropped and counted
        rows_per_shard: OUT is a folder of files with so many rows each; null = OUT is one file
        cache: keep the columns of a large file on disk, so that another call on the same file need not scan it
        overwrite_out: true lets OUT replace a file that none of these stages made, or that IN was made from
    """
    fields = {name: number(score_field if name == "score" else name) for name in columns_of(call.method) if name != "n"}
    columns = [*fields.values(), *([number(score_field)] if plot else [])]
    selector = load_selector(select, selecting) if select else None

    def arrange(source: Source, table: Table, directions: Mapping[str, str]) -> tuple[np.ndarray, dict[str, Any]]:
        kept, facts = selector.pick(source, table, directions) if selector else (np.arange(len(table)), {})
        if not len(kept):
            raise UserError(f"{select} keeps no row: there is nothing to order")
        order = new_order(call, {name: table.columns[column][kept] for name, column in fields.items()}, len(kept))
        # A child of the generator: a method with a seed has drawn from the generator itself.
        index = kept[shuffled_in_windows(order, window_size, np.random.default_rng(seed).spawn(1)[0])]
        picture = Path(call.paths[1] + ".png")
        if plot:
            draw(table.columns[number(score_field)][index], call.method_name, picture)
        elif (before := read_manifest(call.paths[1])) and before.get("config", {}).get("plot"):
            picture.unlink(missing_ok=True)  # of another order
        return index, facts

    copy_rows(
        call,
        columns + (selector.columns() if selector else []),
        arrange,
        directed=selector.directions if selector else dict,
        check=selector.check if selector else lambda: None,
        inputs=selector.inputs() if selector else {},
        score_field=score_field,
        on_bad_row=on_bad_row,
        rows_per_shard=rows_per_shard,
        cache=cache,
        overwrite_out=overwrite_out,
        verb="ordered",
        versions=versions_of(select, selector.method) if selector else {},
    )


def new_order(call: Call, columns: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """The permutation that the method gives. columns: by the names that it reads, each (n,)."""
    given = [n if name == "n" else columns[name] for name in columns_of(call.method)]
    return permutation(row_numbers(call.method, given, call.method_keys), n)


def permutation(index: np.ndarray, n: int) -> np.ndarray:
    """`index` as it is. Raises AssertionError unless it holds every number of 0..n-1 once."""
    assert len(index) == n and (np.bincount(index, minlength=n) == 1).all(), "the method gave no permutation"
    return index


def ordering_keys(method: Callable, given: Mapping[str, Any]) -> dict[str, Key]:
    """The keys of `run`, and those of the selection method that the call names."""
    select = given.get("select")
    return keys_of(run) | (prefixed_keys(str(select), given) if select and select != "null" else {})


def check(call: Call) -> None:
    """Raises UserError where the method, or that of the selection, refuses its keys."""
    check_keys(call.method, call.method_keys)
    if select := call.config["select"]:
        selector = load_selector(select, {key: call.config[key] for key in prefixed_keys(select, call.config)})
        check_keys(selector.method, selector.method_keys)


STAGE = Stage("data_ordering", ("IN.jsonl", "OUT.jsonl"), "order", run, ordering_keys, check)
command = functools.partial(main, STAGE)

if __name__ == "__main__":
    sys.exit(command())
