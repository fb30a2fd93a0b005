"""A method of selection or ordering with its keys: what it reads, and its call."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data_common.calls.config import build, keys_of
from data_common.row_methods.row_input import Reading
from data_common.row_methods.table import Inputs, inputs_of
from data_common.rows.columns import Column, Table
from data_common.rows.jsonl import Source


class RowMethod:
    """A method, its keys, and an input for each of its positional parameters."""

    def __init__(
        self,
        method: Callable,
        method_keys: Mapping[str, Any],
        input_keys: Mapping[str, Any],
        table: Inputs,
        prefix: str = "",
    ):
        """input_keys: values of at least the keys that the inputs bring. prefix: of the keys in the call.

        Raises: UserError where keys do not go together.
        """
        self.method, self.method_keys, self.prefix = method, method_keys, prefix
        self.inputs = {
            name: build(entry, {key: input_keys[key] for key in keys_of(entry)})
            for name, entry in inputs_of(method, table).items()
        }

    def columns(self) -> list[Column]:
        """What is to be read of each row."""
        return [column for one in self.inputs.values() for column in one.columns]

    def files(self) -> dict[str, str]:
        """Name -> path or hub id, beside the data, that the result depends on."""
        return {name: path for one in self.inputs.values() for name, path in one.files().items()}

    def check(self) -> None:
        """Raises UserError for what would be refused whatever the rows hold."""
        for one in self.inputs.values():
            one.check()

    def check_keys(self, **known: Any) -> None:
        """Raises UserError where the method refuses its keys: it is asked to pick or to order no rows.

        known: values of inputs that are known already.
        """
        self.call({name: one.example(np.empty(0)) for name, one in self.inputs.items()} | known)

    def directions(self, declared: Mapping[str, str]) -> dict[str, str]:
        """Score field -> direction: as declared by the input's manifest, and as the names of fields tell.

        Raises: UserError where it is not known which scores are better, and the method must know.
        """
        found = {
            field: way for one in self.inputs.values() for field, way in one.directions(declared, self.prefix).items()
        }
        if direction := self.inputs.get("direction"):
            self.check_keys(direction=direction.known(declared))
        return {**declared, **found}

    def values(self, source: Source, table: Table, directions: Mapping[str, str]) -> dict[str, Any]:
        """What the method is given for the rows of `table`, by name. Raises: UserError."""
        reading = Reading(source, table, directions)
        return {name: one.fill(reading) for name, one in self.inputs.items()}

    def call(self, values: Mapping[str, Any], rows: np.ndarray | None = None) -> tuple[Any, dict[str, Any]]:
        """What the method gives, and the facts that it tells: a method may return a pair of both.

        rows: the numbers of the rows that it is asked about; None = all.
        """
        given = [values[name] if rows is None else _part(name, values[name], rows) for name in self.inputs]
        result = self.method(*given, **self.method_keys)
        return result if isinstance(result, tuple) else (result, {})


def _part(name: str, value: Any, rows: np.ndarray) -> Any:
    if name == "n":
        return len(rows)
    return value[rows] if isinstance(value, np.ndarray) else value


def whole_numbers(result: Any) -> np.ndarray:
    """What a method gave, as an array. Raises AssertionError unless these are whole numbers: no mask."""
    numbers = np.asarray(result)
    assert numbers.dtype.kind in "iu" or not len(numbers), f"the method gave {numbers.dtype} values, not row numbers"
    return numbers.astype(np.int64)
