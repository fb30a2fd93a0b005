"""Min-K% Prob: the mean log-probability of the least likely tokens of a row, a sign of having been trained on.

Min-K% Prob of Detecting Pretraining Data from Large Language Models (arXiv 2310.16789, equation 1). A text that
the model has seen has few tokens that surprise it. The paper's code negates the value; here higher is more likely seen.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta

from data_common.calls.decimals import as_written
from data_common.files.work_folder import WorkFolder
from data_scoring.engines.settings import Forward
from data_scoring.scorer import BaseScorer

ABOUT = {
    "family": "likelihood of language models",
    "needs": "a causal LM",
    "cost": "one forward pass",
    "formula": "paper",
}


class Scorer(BaseScorer):
    """Mean of the k % lowest token log-probabilities (nats); higher = more likely seen in training.

    Args:
        k_percent: share of the tokens of a row that count, rounded down, at least one token
        reference_model: its value is subtracted, so that text which is easy for any model does not stand out;
            folder or hub id; null = no reference
    """

    higher_is_better = True
    shares_work = True

    def __init__(
        self,
        *,
        forward: Forward,
        k_percent: Annotated[float, Meta(gt=0, le=100)] = 20.0,
        reference_model: str | None = None,
    ):
        super().__init__()
        self.forward, self.special = forward, forward.loading.special_tokens_in_text
        self.reads_answers = forward.score_tokens == "answer"
        self.k_percent, self.reference_model = k_percent, reference_model

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError for a model or a device that cannot be had."""
        from data_scoring.engines.likelihood import check_forward

        check_forward(self.forward, self.inputs().values())

    def inputs(self) -> dict[str, str]:
        """The model, and the reference if there is one: folder or hub id."""
        reference = {} if self.reference_model is None else {"reference_model": self.reference_model}
        return {"model": self.forward.model} | reference

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray:
        """The score of every text, (n,); NaN for a text without a token to predict."""
        from data_scoring.engines.likelihood import read_rows

        models = read_rows(texts, self.inputs(), self.forward, self.special, work)
        for rows in models:
            self.tell(rows.facts, rows.warnings)
        value, *reference = [rows.summarise(self.mean_of_lowest) for rows in models]
        return value - reference[0] if reference else value

    def mean_of_lowest(self, values: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Mean of the k % lowest values of each row, (rows,).

        values: (tokens,), row after row. starts, counts: (rows,), first value and number of values of each row.
        """
        share = as_written(self.k_percent) / 100
        chosen = np.array([max(1, math.floor(count * share)) for count in counts.tolist()])
        row = np.repeat(np.arange(len(counts)), counts)
        ascending = values[np.lexsort((values, row))]
        rank = np.arange(len(values)) - starts[row]
        return np.bincount(row, np.where(rank < chosen[row], ascending, 0), len(counts)) / chosen
