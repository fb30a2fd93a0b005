"""Schedules: orders in which rows may repeat, in one phase or several; what they realise of each group."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from data_common.row_methods.groups import ALL
from data_common.row_methods.row_method import whole_numbers

RECORDED_GROUPS = 1000  # more are counted, but not listed in the manifest


def phases_of(result: Any, n: int) -> dict[str, np.ndarray]:
    """Phase -> row numbers of 0..n-1, repetition allowed. result: such a mapping, or the only phase's row numbers.

    Raises: AssertionError where these are no row numbers.
    """
    phases = {
        name: whole_numbers(rows) for name, rows in (result if isinstance(result, Mapping) else {ALL: result}).items()
    }
    for rows in phases.values():
        assert not len(rows) or (rows.min() >= 0 and rows.max() < n), "the method gave a row that is not there"
    return phases


def schedule_facts(phases: Mapping[str, np.ndarray], values: Mapping[str, Any], n: int) -> dict[str, Any]:
    """For the manifest: rows, tokens, shares and passes of each group, by phase, and at last altogether.

    values: what the method was given for n rows. Without `group` and `groups` all rows are one group; without
    `token_count` shares and passes are of rows.
    """
    every = {**phases, ALL: np.concatenate(list(phases.values()))} if len(phases) > 1 else phases
    return {"schedule": [{"phase": name} | _account(rows, values, n) for name, rows in every.items()]}


def _account(rows: np.ndarray, values: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Of one phase. A group's share is of the phase, its passes are over what the file has of the group."""
    group, names = values.get("group", np.zeros(n, np.int64)), values.get("groups", [ALL])
    size = values.get("token_count", np.ones(n))
    count = np.bincount(group[rows], minlength=len(names))
    drawn, there = (np.bincount(group[some], size[some], len(names)) for some in (rows, np.arange(n)))
    share, passes = drawn / max(drawn.sum(), 1), drawn / np.maximum(there, 1)
    groups = [
        {"group": names[one], "rows": int(count[one])}
        | ({"tokens": int(drawn[one])} if "token_count" in values else {})
        | {"share": round(float(share[one]), 6), "passes": round(float(passes[one]), 6)}
        for one in range(min(len(names), RECORDED_GROUPS))
    ]
    return {"rows": len(rows)} | ({"tokens": int(drawn.sum())} if "token_count" in values else {}) | {"groups": groups}
