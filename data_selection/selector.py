"""A selection method with its keys, applied to a file, or to each of its groups.

Selection does this, and ordering too when it selects in the same call.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from data_common.calls.config import Key, keys_of, load_yaml
from data_common.calls.stage import Stage, keys_for, load_method
from data_common.messages.errors import UserError
from data_common.row_methods.groups import group_column, group_labels
from data_common.row_methods.row_method import RowMethod, whole_numbers
from data_common.row_methods.table import SELECTION_INPUTS, input_keys
from data_common.rows.columns import Column, Table
from data_common.rows.jsonl import Source
from data_selection.repeats import checked_copies, copies_facts, repeated
from data_selection.rewriting import REWRITE, Rewriter

COPIES = "copies"  # what a method.py defines in place of `select`
RECORDED_GROUPS = 1000  # more are counted, but not listed in the manifest


class Selector(RowMethod):
    """A selection method with its keys.

    Args:
        group_field: field with a text, number or boolean, e.g. a source or language: the method is applied to the
            rows of each group on their own; null = all rows are one group
    """

    def __init__(
        self,
        method: Callable,
        method_keys: Mapping[str, Any],
        prefix: str = "",
        *,
        group_field: str | None = None,
        **input_values: Any,
    ):
        """prefix: of the keys in the call. input_values: of the keys that the inputs of the method bring."""
        super().__init__(method, method_keys, input_values | {"group_field": group_field}, SELECTION_INPUTS, prefix)
        self.group = group_column(group_field) if group_field else None
        self.within = self.group is not None and "group" not in self.inputs
        self.score_field: str | None = input_values.get("score_field")
        self.max_repeats: int | None = input_values.get("max_repeats")  # of a method that gives copies

    def columns(self) -> list[Column]:
        """What is to be read of each row."""
        return super().columns() + ([self.group] if self.group else [])

    def pick(self, source: Source, table: Table, directions: Mapping[str, str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Row numbers to keep, in input order, and what there is to say about them; copies as in `repeated`.

        directions: score field -> "higher" or "lower". Raises: UserError for more copies than are allowed.
        """
        values = self.values(source, table, directions)
        copies, told = self._copies(table, values)
        if self.max_repeats is None:
            kept, facts = np.flatnonzero(copies), {}
        else:
            kept, facts = repeated(copies, max_repeats=self.max_repeats), copies_facts(copies)
        if "raw_score" in values:
            facts["band"] = self._band(values["raw_score"], kept, directions)
        if self.group:
            facts |= self._group_facts(source, table, kept, told if self.within else ())
        if not self.within and told[0]:
            facts["facts"] = told[0]
        return kept, facts

    def _copies(self, table: Table, values: Mapping[str, Any]) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Copies of each row, (n,), and the facts that each call of the method tells.

        It is called within each group, unless there are none, or it asks for the groups itself.
        """
        if not self.within:
            copies, told = self._apply(values, None, len(table))
            return copies, [told]
        code, copies, facts = table.columns[self.group], np.zeros(len(table), np.int64), []
        for rows in np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code))[:-1]):
            copies[rows], told = self._apply(values, rows, len(rows))
            facts.append(told)
        return copies, facts

    def _apply(self, values: Mapping[str, Any], rows: np.ndarray | None, n: int) -> tuple[np.ndarray, dict[str, Any]]:
        """The method on all rows, or on the n rows of one group -> copies of each, its facts."""
        result, facts = self.call(values, rows)
        numbers = whole_numbers(result)
        return (once if self.max_repeats is None else checked_copies)(numbers, n), facts

    def _band(self, score: np.ndarray, kept: np.ndarray, directions: Mapping[str, str]) -> str:
        """Which end of the raw scores was kept, in words."""
        if not len(kept) or len(kept) == len(score):
            return "all rows" if len(kept) else "no row"
        lowest, highest = score[kept].min() == score.min(), score[kept].max() == score.max()
        if lowest == highest:
            return "of the lowest and of the highest scores" if lowest else "scores between the lowest and the highest"
        better = self.inputs["raw_score"].known(directions)
        quality = "" if better is None else ", the best ones" if (better == "lower") == lowest else ", the worst ones"
        return f"the {'lowest' if lowest else 'highest'} scores{quality}"

    def _group_facts(
        self,
        source: Source,
        table: Table,
        kept: np.ndarray,
        told: Sequence[dict[str, Any]] = (),
    ) -> dict[str, Any]:
        """told: facts of the method about each group, where it was applied to each."""
        code = table.columns[self.group]
        rows_in, rows_out = np.bincount(code), np.bincount(code[kept], minlength=code.max() + 1)
        first = np.unique(code, return_index=True)[1][:RECORDED_GROUPS]
        names = group_labels(source, table.rows.take(first), self.group)
        listed = zip_longest(names, rows_in[: len(names)].tolist(), rows_out[: len(names)].tolist(), told[: len(names)])
        groups = [
            {"group": name, "rows_in": before, "rows_out": after} | ({"facts": facts} if facts else {})
            for name, before, after, facts in listed
        ]
        return {"group_count": len(rows_in), "groups": groups}


def once(index: np.ndarray, n: int) -> np.ndarray:
    """1 for each picked row number, else 0, (n,). Raises AssertionError unless they are distinct numbers of 0..n-1."""
    assert not len(index) or (index.min() >= 0 and index.max() < n), "the method picked a row that is not there"
    copies = np.bincount(index, minlength=n)
    assert copies.max(initial=0) <= 1, "the method picked a row twice"
    return copies


def selector_keys(method: Callable, given: Mapping[str, Any]) -> dict[str, Key]:
    """The keys that selection has for `method`, beside its own."""
    if method.__name__ == REWRITE:
        return keys_of(Rewriter)
    copying = keys_of(repeated) if method.__name__ == COPIES else {}
    return keys_of(Selector) | input_keys(method, SELECTION_INPUTS) | copying


SELECTION = Stage("data_selection", ("IN.jsonl", "OUT.jsonl"), ("select", COPIES, REWRITE), Selector, selector_keys)


def prefixed_keys(name: str, given: Mapping[str, Any]) -> dict[str, Key]:
    """The keys of the selection method `name` in a call of another stage: `select.KEY`, with the defaults of its YAML.

    given: what the call sets; its score_field is that of selection too, unless select.score_field says otherwise.
    Raises: UserError for an unknown method.
    """
    method, config = load_method(SELECTION, name)
    if method.__name__ == REWRITE:
        raise UserError(f"select={name} rewrites the rows, which an order copies: call data_selection first")
    stage_keys, method_keys = keys_for(SELECTION, method)
    defaults = load_yaml(config) if config else {}
    if "score_field" in given:
        defaults["score_field"] = given["score_field"]
    keys = (stage_keys | method_keys).values()
    return {
        f"select.{key.name}": dataclasses.replace(
            key, name=f"select.{key.name}", default=defaults.get(key.name, key.default)
        )
        for key in keys
    }


def load_selector(name: str, values: Mapping[str, Any]) -> Selector:
    """The selection method `name` with the values of its `prefixed_keys`."""
    method, _ = load_method(SELECTION, name)
    values = {key.removeprefix("select."): value for key, value in values.items()}
    method_keys = {key: values.pop(key) for key in keys_of(method)}
    return Selector(method, method_keys, "select.", **values)
