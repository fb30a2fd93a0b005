"""Combine scores that the rows already have: the weighted mean of their ranks or z-scores.

The way in which Meta-rater (arXiv 2504.14194) puts quality scores together, with weights that are given, not learned.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.files.manifest import declared_directions
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.rows.columns import number, scan
from data_common.rows.direction import lower_fields
from data_common.rows.statistics import Normalization, normalised
from data_common.rows.texts import Texts
from data_scoring.scorer import BaseScorer

ABOUT = {
    "family": "several scores as one",
    "needs": "fields with scores",
    "cost": "reading and sorting the scores",
    "formula": "paper",
}

VERSIONS = {2: "where no manifest told which values are better, higher ones were taken for it"}


class Scorer(BaseScorer):
    """sum_j w_j normalised(score_j) / sum_j w_j, every score turned first so that higher is better.

    Args:
        fields: the fields to combine; which way is better is read from the manifest of IN
        weights: weight of each field, in their order; null = all equal
        normalize: rank = share of the rows that are worse; z-score = standard deviations from the mean
        lower_is_better: fields whose lower values are better; of the others, those that no manifest tells of are taken
            as better when higher; null = every direction must be known
    """

    def __init__(
        self,
        *,
        fields: list[str],
        weights: list[Annotated[float, Meta(ge=0)]] | None = None,
        normalize: Normalization = "rank",
        lower_is_better: list[str] | None = None,
    ):
        super().__init__()
        self.number_fields, self.normalize, self.lower = fields, normalize, lower_is_better
        self.weights = [1.0] * len(fields) if weights is None else weights
        if not fields or len(set(fields)) < len(fields):
            raise UserError("fields: name each field to combine once")
        if len(self.weights) != len(fields) or not sum(self.weights) > 0:
            raise UserError(f"weights: {len(fields)} numbers are needed, one for each field, not all of them 0")
        if unknown := [field for field in lower_is_better or () if field not in fields]:
            raise UserError(f"lower_is_better: {unknown[0]} is not one of the fields")

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError where a direction is not known."""
        lower_fields(self.number_fields, self.lower, directions, "lower_is_better")

    def score(self, texts: Texts, work: WorkFolder) -> np.ndarray:
        """The combination for every row with text, (n,). Raises: UserError where a direction is not known."""
        source = texts.source
        directions = declared_directions(source.path, [shard.name for shard in source.shards])
        table = scan(source, [number(field) for field in self.number_fields], texts.on_bad_row)
        rows = np.searchsorted(table.rows.start, texts.rows.start[~texts.blank])
        lower = lower_fields(self.number_fields, self.lower, directions, "lower_is_better")
        columns = {field: table.columns[number(field)][rows] for field in self.number_fields}
        scores = {field: -column if field in lower else column for field, column in columns.items()}
        return combined(scores, self.weights, self.normalize)


def combined(scores: Mapping[str, np.ndarray], weights: Sequence[float], normalize: Normalization) -> np.ndarray:
    """The weighted mean of normalised scores. scores: field -> (n,), higher is better; -> (n,)."""
    parts = [weight * normalised(score, normalize) for weight, score in zip(weights, scores.values(), strict=True)]
    return np.sum(parts, 0) / sum(weights)
