"""Inputs that are scores: one or several, as they are or turned so that higher is better, and their directions."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from data_common.messages.errors import UserError
from data_common.row_methods.row_input import Reading, RowInput
from data_common.rows.columns import number
from data_common.rows.direction import higher_is_better, known_direction, lower_fields


class ScoreField(RowInput):
    """The score of each row as it is, (n,).

    Args:
        score_field: field of the score; a dot steps into an object, as in meta.score
    """

    def __init__(self, *, score_field: str = "score"):
        self.score_field, self.columns = score_field, [number(score_field)]

    def fill(self, reading: Reading) -> np.ndarray:
        return reading.table.columns[number(self.score_field)]

    def example(self, score: np.ndarray) -> np.ndarray:
        return score


class RawScore(ScoreField):
    """The score of each row as it is, (n,), with the direction that selection knows it by.

    Args:
        direction: which scores are better; auto takes it from the manifest that scoring wrote, or from the method that
            score_field is named after
    """

    def __init__(self, *, direction: Literal["auto", "higher", "lower"] = "auto", **field: Any):
        super().__init__(**field)
        self.direction = direction

    def directions(self, declared: Mapping[str, str], prefix: str) -> dict[str, str]:
        found = self.known(declared)
        return {} if found is None or self.direction != "auto" else {self.score_field: found}

    def known(self, directions: Mapping[str, str]) -> str | None:
        """ "higher" or "lower", which is better; None where nothing tells."""
        return known_direction(self.score_field, self.direction, directions)


class Score(RawScore):
    """The score of each row, (n,), turned so that higher is better."""

    def directions(self, declared: Mapping[str, str], prefix: str) -> dict[str, str]:
        cure = f"{prefix}direction=higher (the highest are kept) or {prefix}direction=lower"
        higher_is_better(self.score_field, self.direction, declared, cure)
        return super().directions(declared, prefix)

    def fill(self, reading: Reading) -> np.ndarray:
        score = super().fill(reading)
        return -score if self.known(reading.directions) == "lower" else score


class HigherIsBetter(Score):
    """Whether a higher score is better, for a method that reads scores as they are."""

    def fill(self, reading: Reading) -> bool:
        return self.known(reading.directions) == "higher"

    def example(self, score: np.ndarray) -> bool:
        return True


class Direction(RawScore):
    """ "higher" or "lower", which scores are better; None where nothing tells."""

    def fill(self, reading: Reading) -> str | None:
        return self.known(reading.directions)

    def example(self, score: np.ndarray) -> str:
        return "higher"


class Scores(RowInput):
    """Several scores of each row, (n, k), each turned so that higher is better.

    Args:
        score_fields: the fields of the scores; which way is better is read from the manifest of IN
        lower_is_better: score fields whose lower values are better; of the others, those that no manifest tells of are
            taken as better when higher; null = every direction must be known
    """

    def __init__(self, *, score_fields: list[str], lower_is_better: list[str] | None = None):
        self.fields, self.lower = score_fields, lower_is_better
        self.columns = [number(field) for field in score_fields]
        if not score_fields or len(set(score_fields)) < len(score_fields):
            raise UserError("score_fields: name each field once")
        if unknown := [field for field in lower_is_better or () if field not in score_fields]:
            raise UserError(f"lower_is_better: {unknown[0]} is not one of score_fields")

    def directions(self, declared: Mapping[str, str], prefix: str) -> dict[str, str]:
        lower_fields(self.fields, self.lower, declared, f"{prefix}lower_is_better")
        known = {field: known_direction(field, "auto", declared) for field in self.fields}
        said = self.lower or ()
        return {field: found for field, found in known.items() if found is not None and field not in said}

    def fill(self, reading: Reading) -> np.ndarray:
        lower = lower_fields(self.fields, self.lower, reading.directions, "lower_is_better")
        columns = [reading.table.columns[column] for column in self.columns]
        turned = [-column if field in lower else column for field, column in zip(self.fields, columns, strict=True)]
        return np.column_stack(turned)

    def example(self, score: np.ndarray) -> np.ndarray:
        return np.column_stack([-score if place % 2 else score for place in range(len(self.fields))])
