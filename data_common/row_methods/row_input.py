"""What a positional parameter of a row method is given: the base of the entries of the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_common.rows.columns import Column, Table
from data_common.rows.jsonl import Source


@dataclass(frozen=True)
class Reading:
    """What inputs are filled from: the rows that the method is asked about.

    directions: score field -> "higher" or "lower", which is better, as far as the call knows it.
    """

    source: Source
    table: Table
    directions: Mapping[str, str]


class RowInput:
    """A positional parameter of a row method. The keyword-only parameters of `__init__` are the keys that it brings."""

    columns: Sequence[Column] = ()  # what is read of each row

    def files(self) -> dict[str, str]:
        """Name -> path or hub id of what the values depend on beside the rows."""
        return {}

    def check(self) -> None:
        """Raises UserError for what `fill` would refuse whatever the rows hold."""

    def directions(self, declared: Mapping[str, str], prefix: str) -> dict[str, str]:
        """Score field -> direction, as far as its name tells it. declared: by the manifest of the input.

        prefix: of the keys in the call. Raises: UserError where a direction must be known, and nothing tells it.
        """
        return {}

    def fill(self, reading: Reading) -> Any:
        """The value for these rows; an array has one entry for each row. Raises: UserError."""
        raise NotImplementedError

    def example(self, score: np.ndarray) -> Any:
        """A value for rows with these scores, (n,): without rows it serves to check the method's keys."""
        raise NotImplementedError
