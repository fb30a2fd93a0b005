"""The input that is how often each row was there before deduplication."""

import numpy as np

from data_common.messages.errors import UserError
from data_common.row_methods.row_input import Reading, RowInput
from data_common.rows.columns import number


class DuplicateCount(RowInput):
    """How many rows were like each row, itself counted, (n,) whole numbers from 1 on.

    Args:
        duplicates_field: field with the number of rows that a row stands for, itself counted
    """

    def __init__(self, *, duplicates_field: str = "duplicate_count"):
        self.field, self.columns = duplicates_field, [number(duplicates_field)]

    def fill(self, reading: Reading) -> np.ndarray:
        """Raises UserError for what is no such number."""
        counts = reading.table.columns[self.columns[0]]
        wrong = (counts < 1) | (counts >= 2**53) | (counts != np.floor(counts))
        if wrong.any():
            place = reading.source.place(int(reading.table.rows.start[np.argmax(wrong)]))
            value = counts[np.argmax(wrong)]
            raise UserError(f"{place}: {self.field} is {value:g}, which is no number of rows (1 = there is no other)")
        return counts.astype(np.int64)

    def example(self, score: np.ndarray) -> np.ndarray:
        return np.arange(len(score)) + 1
