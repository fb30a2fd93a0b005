"""Ordering: write the rows, byte for byte, in the order that a method gives them; on request, of a selection.

An order has every row once; in a schedule rows may repeat.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from data_common.calls.cli import main
from data_common.calls.config import Key, Positive, Seed, keys_of
from data_common.calls.stage import Call, Stage, versions_of
from data_common.files.manifest import read_manifest
from data_common.messages.errors import UserError
from data_common.reports.place import page_of
from data_common.row_methods.groups import ALL
from data_common.row_methods.row_method import RowMethod, whole_numbers
from data_common.row_methods.table import ORDERING_INPUTS, input_keys
from data_common.rows.columns import Table, number
from data_common.rows.copy_rows import copy_rows
from data_common.rows.jsonl import BadRowPolicy, Source
from data_common.rows.score_join import ScoreKeys
from data_ordering.patterns import shuffled_in_windows
from data_ordering.plot import draw
from data_ordering.schedules import phases_of, schedule_facts
from data_selection.selector import load_selector, prefixed_keys

SCHEDULE = "schedule"  # what a method.py defines in place of `order`


def run(
    call: Call,
    *,
    score_field: str = "score",
    window_size: Annotated[int, Meta(ge=0)] = 0,
    seed: Seed = 0,
    plot: bool = False,
    report: bool = False,
    select: str | None = None,
    on_bad_row: BadRowPolicy = "error",
    rows_per_shard: Positive | None = None,
    cache: bool = True,
    overwrite_out: bool = False,
    scores: str | None = None,
    id_field: str = "id",
    trust_row_numbers: bool = False,
    **keys: Any,
) -> None:
    """Write the rows in the order of the method. keys: of the inputs of the method, and `select.KEY`.

    Args:
        score_field: field of the score; a dot steps into an object, as in meta.score
        window_size: shuffle the rows inside consecutive windows of so many rows after ordering (of each phase of a
            schedule); 0 or 1 = off
        seed: of the random generator that shuffles in windows
        plot: true draws the score against the position to OUT.png
        report: true writes OUT.report.html: the order with rows at their places, what moves along it, what was dropped
        select: selection method to apply first, in the same call; select.KEY=... sets its keys
        on_bad_row: a row without a usable score stops the run, or is dropped and counted
        rows_per_shard: OUT is a folder of files with so many rows each; null = OUT is one file
        cache: keep the columns of a large file on disk, so that another call on the same file need not scan it
        overwrite_out: true lets OUT replace a file that none of these stages made, or that IN was made from
        scores: file of scores in place of fields of IN, .npy or JSON lines; a folder or glob has one for each shard;
            those of the rows of OUT are written to OUT.scores.npy or OUT.scores.jsonl
        id_field: field by which rows of IN and of scores are joined where no manifest binds the scores to IN
        trust_row_numbers: true takes the scores row by row where nothing tells that they are of this very IN
    """
    method = RowMethod(call.method, call.method_keys, call.config, ORDERING_INPUTS)
    selector = load_selector(select, selected_keys(keys)) if select else None
    parts = [method, selector] if selector else [method]

    def arrange(source: Source, table: Table, directions: Mapping[str, str]) -> tuple[np.ndarray, dict[str, Any]]:
        kept, facts = selector.pick(source, table, directions) if selector else (np.arange(len(table)), {})
        if not len(kept):
            raise UserError(f"{select} keeps no row: there is nothing to order")
        values = method.values(source, table.take(kept) if selector else table, directions)
        phases, told = arranged(method, values, len(kept))
        # A child of the generator: a method with a seed has drawn from the generator itself.
        generator = np.random.default_rng(seed).spawn(1)[0]
        windows = [shuffled_in_windows(rows, window_size, generator) for rows in phases.values()]
        index = kept[np.concatenate(windows)]
        picture = Path(call.paths[1] + ".png")
        if plot:
            draw(table.columns[number(score_field)][index], call.method_name, picture)
        elif (before := read_manifest(call.paths[1])) and before.get("config", {}).get("plot"):
            picture.unlink(missing_ok=True)  # of another order
        if page := page_of(call.paths[1], report):
            from data_ordering.page import Selected, write_order_page  # most calls do without

            write_order_page(page, call.method_name, Selected.of(source, table, index, call.config), index)
        return index, beside(told, facts)

    def directed(declared: Mapping[str, str]) -> dict[str, str]:
        return {field: way for part in parts for field, way in part.directions(declared).items()}

    def check_parts() -> None:
        for part in parts:
            part.check()

    copy_rows(
        call,
        [column for part in parts for column in part.columns()] + ([number(score_field)] if plot else []),
        arrange,
        directed=directed,
        check=check_parts,
        inputs=beside(method.files(), selector.files() if selector else {}),
        score_field=score_field,
        score_keys=ScoreKeys(scores, id_field, trust_row_numbers) if scores else None,
        on_bad_row=on_bad_row,
        rows_per_shard=rows_per_shard,
        cache=cache,
        overwrite_out=overwrite_out,
        verb="scheduled" if call.method.__name__ == SCHEDULE else "ordered",
        versions=versions_of(select, selector.method) if selector else {},
    )


def arranged(method: RowMethod, values: Mapping[str, Any], n: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Phase -> row numbers, an order being one phase; and what the manifest tells. values: for n > 0 rows.

    Raises: UserError for a schedule without rows.
    """
    result, told = method.call(values)
    facts = {"facts": told} if told else {}
    if method.method.__name__ != SCHEDULE:
        return {ALL: permutation(whole_numbers(result), n)}, facts
    phases = phases_of(result, n)
    if not any(map(len, phases.values())):
        raise UserError(
            "the schedule has no row: what it draws has no tokens, or each group may give less than half a row"
        )
    return phases, facts | schedule_facts(phases, values, n)


def permutation(index: np.ndarray, n: int) -> np.ndarray:
    """`index` as it is. Raises AssertionError unless it holds every number of 0..n-1 once."""
    assert len(index) == n and (np.bincount(index, minlength=n) == 1).all(), "the method gave no permutation"
    return index


def ordering_keys(method: Callable, given: Mapping[str, Any]) -> dict[str, Key]:
    """The keys of `run`, of the inputs of the method, and of the selection method that the call names."""
    select = given.get("select")
    selecting = prefixed_keys(str(select), given) if select and select != "null" else {}
    return keys_of(run) | input_keys(method, ORDERING_INPUTS) | selecting


def selected_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the selection method."""
    return {name: value for name, value in config.items() if name.startswith("select.")}


def beside(own: Mapping[str, Any], selected: Mapping[str, Any]) -> dict[str, Any]:
    """What the method and the selection tell; a name that both have is `select.NAME` for the selection."""
    return {**own, **{f"select.{name}" if name in own else name: value for name, value in selected.items()}}


def check(call: Call) -> None:
    """Raises UserError where the method, or that of the selection, refuses its keys."""
    RowMethod(call.method, call.method_keys, call.config, ORDERING_INPUTS).check_keys()
    if select := call.config["select"]:
        load_selector(select, selected_keys(call.config)).check_keys()


STAGE = Stage("data_ordering", ("IN.jsonl", "OUT.jsonl"), ("order", SCHEDULE), run, ordering_keys, check)
command = functools.partial(main, STAGE)

if __name__ == "__main__":
    sys.exit(command())
