"""Ordering: write the same rows, byte for byte, in the order that a method gives them."""

import sys

import numpy as np

from common.cli import Call, Stage, main
from common.jsonl import BadRowPolicy
from common.row_stage import copy_rows


def run(call: Call, *, score_field: str = "score", on_bad_row: BadRowPolicy = "error") -> None:
    """Write the rows in the order of the method.

    Args:
        score_field: field of the score
        on_bad_row: a row without a usable score stops the run, or is dropped and counted
    """
    copy_rows(
        call,
        score_field=score_field,
        on_bad_row=on_bad_row,
        arguments=lambda columns, directions: columns,
        check=permutation,
        verb="ordered",
    )


def permutation(index: np.ndarray, n: int) -> np.ndarray:
    """`index` as it is. Raises AssertionError unless it holds every number of 0..n-1 once."""
    assert len(index) == n and (np.bincount(index, minlength=n) == 1).all(), "the method gave no permutation"
    return index


STAGE = Stage("data_ordering", ("IN.jsonl", "OUT.jsonl"), "order", run)

if __name__ == "__main__":
    sys.exit(main(STAGE))
