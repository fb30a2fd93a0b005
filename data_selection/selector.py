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
from data_common.row_methods.groups import group_column, group_labels
from data_common.row_methods.row_method import RowMethod, whole_numbers
from data_common.row_methods.table import SELECTION_INPUTS, input_keys
from data_common.rows.columns import Column, Table
from data_common.rows.jsonl import Source

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
        self.score_field: str | None = input_values.get("score_field")

    def columns(self) -> list[Column]:
        """What is to be read of each row."""
        return super().columns() + ([self.group] if self.group else [])

    def pick(self, source: Source, table: Table, directions: Mapping[str, str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Row numbers to keep, ascending, and what there is to say about them.

        directions: score field -> "higher" or "lower".
        """
        values = self.values(source, table, directions)
        kept, facts = self._picked(source, table, values)
        if "raw_score" in values:
            facts = facts | {"band": self._band(values["raw_score"], kept, directions)}
        return kept, facts

    def _picked(self, source: Source, table: Table, values: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
        """Within each group, unless there are none, or the method asks for the groups itself."""
        if self.group is None or "group" in values:
            kept, told = self._apply(values, None, len(table))
            facts = {"facts": told} if told else {}
            return kept, facts | (self._group_facts(source, table, kept) if self.group else {})
        code = table.columns[self.group]
        members = np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code))[:-1])
        picked = [self._apply(values, rows, len(rows)) for rows in members]
        kept = np.sort(np.concatenate([rows[index] for rows, (index, _) in zip(members, picked, strict=True)]))
        return kept, self._group_facts(source, table, kept, [told for _, told in picked])

    def _apply(self, values: Mapping[str, Any], rows: np.ndarray | None, n: int) -> tuple[np.ndarray, dict[str, Any]]:
        """The method on all rows, or on the rows of one group -> positions among them, ascending; its facts."""
        result, facts = self.call(values, rows)
        return in_input_order(whole_numbers(result), n), facts

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


def in_input_order(index: np.ndarray, n: int) -> np.ndarray:
    """The picked row numbers, ascending. Raises AssertionError unless they are distinct numbers of 0..n-1."""
    picked = np.sort(index)
    assert not len(picked) or (picked[0] >= 0 and picked[-1] < n), "the method picked a row that is not there"
    assert (np.diff(picked) > 0).all(), "the method picked a row twice"
    return picked


def selector_keys(method: Callable, given: Mapping[str, Any]) -> dict[str, Key]:
    """The keys that selection has for `method`, beside its own."""
    return keys_of(Selector) | input_keys(method, SELECTION_INPUTS)


SELECTION = Stage("data_selection", ("IN.jsonl", "OUT.jsonl"), ("select",), Selector, selector_keys)


def prefixed_keys(name: str, given: Mapping[str, Any]) -> dict[str, Key]:
    """The keys of the selection method `name` in a call of another stage: `select.KEY`, with the defaults of its YAML.

    given: what the call sets; its score_field is that of selection too, unless select.score_field says otherwise.
    Raises: UserError for an unknown method.
    """
    method, config = load_method(SELECTION, name)
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
