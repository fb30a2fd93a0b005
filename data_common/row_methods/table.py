"""The table of row inputs: the names that a positional parameter of a selection or an ordering may have.

Both stages, their help, the check of a call and the tests take the meaning of a name from here.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np

from data_common.calls.config import Key, columns_of, keys_of
from data_common.row_methods.duplicates import DuplicateCount
from data_common.row_methods.embeddings import Embedding
from data_common.row_methods.groups import Group, Groups
from data_common.row_methods.row_input import Reading, RowInput
from data_common.row_methods.scores import Direction, HigherIsBetter, RawScore, Score, ScoreField, Scores
from data_common.row_methods.token_counts import TokenCounts
from data_common.rows.columns import number

Inputs = Mapping[str, Callable[..., RowInput]]


class RowCount(RowInput):
    """The number of rows."""

    def fill(self, reading: Reading) -> int:
        return len(reading.table)

    def example(self, score: np.ndarray) -> int:
        return len(score)


class RowNumber(RowInput):
    """The number of each row in the file, (n,), counted over the usable rows; also inside a group."""

    def fill(self, reading: Reading) -> np.ndarray:
        return np.arange(len(reading.table))

    def example(self, score: np.ndarray) -> np.ndarray:
        return np.arange(len(score))


class NumericField(RowInput):
    """The numbers of a field, (n,): what any other name stands for."""

    def __init__(self, name: str):
        self.columns = [number(name)]

    def fill(self, reading: Reading) -> np.ndarray:
        return reading.table.columns[self.columns[0]]

    def example(self, score: np.ndarray) -> np.ndarray:
        return score


SELECTION_INPUTS: Inputs = MappingProxyType(
    {
        "n": RowCount,
        "row_number": RowNumber,
        "score": Score,
        "raw_score": RawScore,
        "higher_is_better": HigherIsBetter,
        "direction": Direction,
        "scores": Scores,
        "group": Group,
        "groups": Groups,
        "token_count": TokenCounts,
        "embedding": Embedding,
        "duplicate_count": DuplicateCount,
    }
)
ORDERING_INPUTS: Inputs = MappingProxyType({**SELECTION_INPUTS, "score": ScoreField})  # which sorts scores as they are


def inputs_of(method: Callable, table: Inputs) -> dict[str, Callable[..., RowInput]]:
    """Name of a positional parameter -> what makes its input from the keys that it brings."""
    names = columns_of(method)
    # A method that is told the direction gets the scores as they are.
    table = {**table, "score": RawScore} if "higher_is_better" in names else table
    return {name: table.get(name) or partial(NumericField, name) for name in names}


def input_keys(method: Callable, table: Inputs) -> dict[str, Key]:
    """The keys that the inputs of the method bring."""
    return {name: key for entry in inputs_of(method, table).values() for name, key in keys_of(entry).items()}
