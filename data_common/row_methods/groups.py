"""Inputs that are groups: the number of each row's group, and the names of the groups."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from data_common.messages.errors import UserError
from data_common.messages.visible import brief
from data_common.row_methods.row_input import Reading, RowInput
from data_common.rows.columns import Column
from data_common.rows.json_line import Decoder, Label
from data_common.rows.jsonl import Rows, Source, raw_lines

ALL = "all"  # the name of the only group where no field tells groups apart
SHOWN = 8  # names in a message


class Group(RowInput):
    """The number of each row's group, (n,): groups are numbered from 0 by first appearance.

    Args:
        group_field: field with a text, number or boolean, e.g. a source or language; null = all rows are one group
    """

    def __init__(self, *, group_field: str | None = None):
        self.columns = [group_column(group_field)] if group_field else []

    def fill(self, reading: Reading) -> np.ndarray:
        return self._numbered(reading)[0]

    def example(self, score: np.ndarray) -> np.ndarray:
        return np.arange(len(score)) % 2

    def _numbered(self, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
        """The number of each row's group, the first row of each group."""
        if not self.columns:
            return np.zeros(len(reading.table), np.int64), np.arange(1)
        return numbered(reading.table.columns[self.columns[0]])


class Groups(Group):
    """The name of each group, a list of texts: numbers and booleans are spelled as in JSON."""

    def fill(self, reading: Reading) -> list[str]:
        if not self.columns:
            return [ALL]
        first = reading.table.rows.take(self._numbered(reading)[1])
        return group_names(reading.source, first, self.columns[0])

    def example(self, score: np.ndarray) -> list[str]:
        return ["one", "two"][: len(score)]


def group_column(field: str) -> Column:
    """The column of the groups of a field."""
    return Column("group", (field,))


def numbered(code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n,) numbered from 0 again by first appearance, and the first row of each of the (g,) that appear."""
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return number[place], first[order]


def group_labels(source: Source, rows: Rows, column: Column) -> list[str | bool | int | float]:
    """What the group field holds in each of `rows`."""
    decode = Decoder(dict.fromkeys(column.fields, Label))
    return [decode(line, True) for line in raw_lines(source, rows)]


def group_names(source: Source, rows: Rows, column: Column) -> list[str]:
    """The name of each group, of which `rows` has one row each. Raises: UserError where two of them have one name."""
    names = [spelled(label) for label in group_labels(source, rows, column)]
    if twice := [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []:
        raise UserError(
            f"{column.fields[0]} has {twice[0]} as a text and as a number: two groups, one name (spell both as text)"
        )
    return names


def spelled(label: str | bool | int | float) -> str:
    """A group's label as text; 1 and 1.0 are one group, and spelled alike."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return label if isinstance(label, str) else json.dumps(label)


def of_groups(named: Collection[str], groups: Sequence[str], key: str) -> None:
    """Raises UserError where `key` names a group that is not in `groups`; without rows there is nothing to check."""
    if unknown := [name for name in named if name not in groups] if groups else []:
        known = ", ".join(map(brief, groups[:SHOWN])) + (", ..." if len(groups) > SHOWN else "")
        cure = "all rows are one group: set group_field=FIELD" if list(groups) == [ALL] else f"groups are {known}"
        raise UserError(f"{key}: no row is of the group {brief(unknown[0])} ({cure})")


def per_group(value: Any, groups: Sequence[str], key: str) -> list[Any]:
    """The value of each group: a mapping has one for each name, anything else is the value of all.

    Raises: UserError for a name that is no group, and for a group without a value.
    """
    if not isinstance(value, Mapping):
        return [value] * len(groups)
    of_groups(value, groups, key)
    if missing := [name for name in groups if name not in value]:
        raise UserError(f"{key}: the group {brief(missing[0])} has no value")
    return [value[name] for name in groups]
