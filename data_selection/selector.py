"""A selection method with its keys, applied to a file: direction of the score, groups, token counts.

Selection does this, and ordering too when it selects in the same call.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from data_common.calls.config import Key, columns_of, keys_of, load_yaml
from data_common.calls.stage import Stage, keys_for, load_method
from data_common.rows.columns import Column, Table, number
from data_common.rows.copy_rows import check_keys, row_numbers
from data_common.rows.direction import higher_is_better, known_direction
from data_common.rows.json_line import Decoder, Label
from data_common.rows.jsonl import Source, raw_lines
from data_selection.token_counts import TokenCounts

RECORDED_GROUPS = 1000  # more are counted, but not listed in the manifest


class Selector:
    """A selection method with its keys.

    Args:
        score_field: field of the score; a dot steps into an object, as in meta.score
        direction: which scores are better; auto takes it from the manifest that scoring wrote, or from the method that
            score_field is named after
        group_field: field with a text, number or boolean, e.g. a source or language: the method is applied to the
            rows of each group on their own; null = all rows are one group
    """

    def __init__(
        self,
        method: Callable,
        method_keys: Mapping[str, Any],
        prefix: str = "",
        *,
        score_field: str = "score",
        direction: Literal["auto", "higher", "lower"] = "auto",
        group_field: str | None = None,
        **counting: Any,
    ):
        """prefix: of the keys in the call. counting: keys of `TokenCounts`, where the method asks for `token_count`."""
        self.method, self.method_keys, self.prefix = method, method_keys, prefix
        self.names = columns_of(method)
        self.score_field, self.direction = score_field, direction
        self.group = Column("group", (group_field,)) if group_field else None
        self.tokens = TokenCounts(**counting) if "token_count" in self.names else None

    def inputs(self) -> dict[str, str]:
        """Paths or hub ids, beside the data, that the result depends on."""
        return {"tokenizer": self.tokens.tokenizer} if self.tokens and self.tokens.tokenizer else {}

    def columns(self) -> list[Column]:
        """What is to be read of the file."""
        special = {"n": [], "higher_is_better": [], "direction": [], "row_number": []}
        special |= {name: [number(self.score_field)] for name in ("score", "raw_score")}
        special["token_count"] = [self.tokens.column] if self.tokens else []
        columns = [column for name in self.names for column in special.get(name, [number(name)])]
        return columns + ([self.group] if self.group else [])

    def directions(self, declared: Mapping[str, str]) -> dict[str, str]:
        """Those that the input's manifest declares, and that of the score where the name of its field tells it.

        Raises: UserError where it is not known which scores are better, and the method must know.
        """
        if "score" in self.names:
            self._higher_is_better(declared)
        found = known_direction(self.score_field, self.direction, declared)
        if "direction" in self.names:
            check_keys(self.method, self.method_keys, found)
        named = {} if found is None or self.direction != "auto" else {self.score_field: found}
        return {**declared, **named} if {"score", "raw_score"} & set(self.names) else dict(declared)

    def check(self) -> None:
        """Raises UserError where the tokenizer does not load."""
        if self.tokens:
            self.tokens.check()

    def pick(self, source: Source, table: Table, directions: Mapping[str, str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Row numbers to keep, ascending, and what there is to say about the groups.

        directions: score field -> "higher" or "lower".
        """
        columns = self._given(source, table, directions)
        kept, facts = self._picked(source, table, columns)
        if "raw_score" in self.names:
            facts |= {"band": self._band(table.columns[number(self.score_field)], kept, directions)}
        return kept, facts

    def _picked(self, source: Source, table: Table, columns: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
        if self.group is None:
            return self._apply(columns, None, len(table)), {}
        code = table.columns[self.group]
        members = np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code))[:-1])
        kept = np.sort(np.concatenate([rows[self._apply(columns, rows, len(rows))] for rows in members]))
        return kept, self._group_facts(source, table, code, kept)

    def _band(self, score: np.ndarray, kept: np.ndarray, directions: Mapping[str, str]) -> str:
        """Which end of the raw scores was kept, in words."""
        if not len(kept) or len(kept) == len(score):
            return "all rows" if len(kept) else "no row"
        lowest, highest = score[kept].min() == score.min(), score[kept].max() == score.max()
        if lowest == highest:
            return "of the lowest and of the highest scores" if lowest else "scores between the lowest and the highest"
        better = known_direction(self.score_field, self.direction, directions)
        quality = "" if better is None else ", the best ones" if (better == "lower") == lowest else ", the worst ones"
        return f"the {'lowest' if lowest else 'highest'} scores{quality}"

    def _given(self, source: Source, table: Table, directions: Mapping[str, str]) -> dict[str, Any]:
        """What the method asks for, by name; all but `n`."""
        columns: dict[str, Any] = {}
        for name in self.names:
            if name == "score":
                higher = self._higher_is_better(directions)
                # A method that does not ask for the direction gets scores turned so that higher is better.
                turn = not higher and "higher_is_better" not in self.names
                score = table.columns[number(self.score_field)]
                columns |= {"score": -score if turn else score, "higher_is_better": higher}
            elif name == "raw_score":
                columns[name] = table.columns[number(self.score_field)]
            elif name == "direction":
                columns[name] = known_direction(self.score_field, self.direction, directions)
            elif name == "row_number":
                columns[name] = np.arange(len(table))
            elif name == "token_count":
                columns[name] = self.tokens.counts(source, table)
            elif name not in ("n", "higher_is_better"):
                columns[name] = table.columns[number(name)]
        return columns

    def _higher_is_better(self, directions: Mapping[str, str]) -> bool:
        cure = f"{self.prefix}direction=higher (the highest are kept) or {self.prefix}direction=lower"
        return higher_is_better(self.score_field, self.direction, directions, cure)

    def _apply(self, columns: Mapping[str, Any], rows: np.ndarray | None, n: int) -> np.ndarray:
        """The method on all rows, or on the rows of one group -> positions among them, ascending."""

        def part(values: Any) -> Any:
            return values if rows is None or not isinstance(values, np.ndarray) else values[rows]

        given = [n if name == "n" else part(columns[name]) for name in self.names]
        return in_input_order(row_numbers(self.method, given, self.method_keys), n)

    def _group_facts(self, source: Source, table: Table, code: np.ndarray, kept: np.ndarray) -> dict[str, Any]:
        rows_in, rows_out = np.bincount(code), np.bincount(code[kept], minlength=code.max() + 1)
        first = np.unique(code, return_index=True)[1][:RECORDED_GROUPS]
        decode = Decoder(dict.fromkeys(self.group.fields, Label))
        names = [decode(line, True) for line in raw_lines(source, table.rows.take(first))]
        listed = zip(names, rows_in.tolist(), rows_out.tolist(), strict=False)
        keys = ("group", "rows_in", "rows_out")
        return {"group_count": len(rows_in), "groups": [dict(zip(keys, one, strict=True)) for one in listed]}


def in_input_order(index: np.ndarray, n: int) -> np.ndarray:
    """The picked row numbers, ascending. Raises AssertionError unless they are distinct numbers of 0..n-1."""
    picked = np.sort(index)
    assert not len(picked) or (picked[0] >= 0 and picked[-1] < n), "the method picked a row that is not there"
    assert (np.diff(picked) > 0).all(), "the method picked a row twice"
    return picked


def selector_keys(method: Callable, given: Mapping[str, Any]) -> dict[str, Key]:
    """The keys that selection has for `method`, beside its own."""
    return keys_of(Selector) | (keys_of(TokenCounts) if "token_count" in columns_of(method) else {})


SELECTION = Stage("data_selection", ("IN.jsonl", "OUT.jsonl"), "select", Selector, selector_keys)


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
