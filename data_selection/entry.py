"""Selection: keep the rows that a method picks by their scores, in the order of the input, byte for byte."""

import re
import sys
from typing import Any, Literal

import numpy as np

from common.cli import Call, Stage, main
from common.config import columns_of
from common.errors import UserError
from common.jsonl import BadRowPolicy
from common.row_stage import copy_rows

LOSS_LIKE = re.compile(r"(^|[^a-z])(ppl|perplexity|nll|loss|bpb)([^a-z]|$)", re.IGNORECASE)


def run(
    call: Call,
    *,
    score_field: str = "score",
    direction: Literal["auto", "higher", "lower"] = "auto",
    on_bad_row: BadRowPolicy = "error",
) -> None:
    """Keep the rows that the method picks.

    Args:
        score_field: field of the score
        direction: which scores are better; auto takes it from the manifest that scoring wrote
        on_bad_row: a row without a usable score stops the run, or is dropped and counted
    """

    names = columns_of(call.method)

    def arguments(columns: dict[str, Any], directions: dict[str, str]) -> dict[str, Any]:
        if "score" not in columns:
            return columns
        higher = higher_is_better(score_field, direction, directions)
        # A method that does not ask for the direction gets scores turned so that higher is better.
        score = columns["score"] if higher or "higher_is_better" in names else -columns["score"]
        return columns | {"score": score, "higher_is_better": higher}

    copy_rows(
        call, score_field=score_field, on_bad_row=on_bad_row, arguments=arguments, check=in_input_order, verb="kept"
    )


def higher_is_better(field: str, direction: str, directions: dict[str, str]) -> bool:
    """Resolve `direction`: as said, else as the manifest of the input declares, else higher with a warning.

    Raises: UserError where nothing is declared and the field is named like a loss or perplexity.
    """
    if direction == "auto" and field in directions:
        direction = directions[field]
    elif direction == "auto":
        if LOSS_LIKE.search(field):
            raise UserError(
                f"is a higher or a lower {field} better? The input has no manifest: set direction=higher|lower"
            )
        print(f"warning: no manifest tells the direction of '{field}': taking higher as better", file=sys.stderr)
        direction = "higher"
    return direction == "higher"


def in_input_order(index: np.ndarray, n: int) -> np.ndarray:
    """The picked row numbers, ascending. Raises AssertionError unless they are distinct numbers of 0..n-1."""
    picked = np.sort(index)
    assert not len(picked) or (picked[0] >= 0 and picked[-1] < n), "the method picked a row that is not there"
    assert (np.diff(picked) > 0).all(), "the method picked a row twice"
    return picked


STAGE = Stage("data_selection", ("IN.jsonl", "OUT.jsonl"), "select", run)

if __name__ == "__main__":
    sys.exit(main(STAGE))
