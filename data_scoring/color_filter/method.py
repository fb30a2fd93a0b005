"""CoLoR-Filter: by how much training on the target lowers the loss of a model on a row.

Conditional Loss Reduction Filtering for Targeted Language Model Pre-training (arXiv 2406.10670, section 3).
The paper takes the same small model before and after fine-tuning on the target; both see the row alone.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_scoring.engines.settings import Forward
from data_scoring.scorer import BaseScorer

ABOUT = {
    "family": "likelihood of language models",
    "needs": "two causal LMs, before and after training on the target",
    "cost": "two forward passes",
    "formula": "paper",
}


class Scorer(BaseScorer):
    """nll under prior_model - nll under model (nats); higher = more is gained by having learned the target.

    Args:
        prior_model: the model before it was trained on the target, with the tokenizer of `model`; folder or hub id
        reduction: mean = per predicted token, as the authors' code, whose rows have one length; sum = of the whole row,
            as the paper's formula, which favours long rows
    """

    higher_is_better = True
    shares_work = True

    def __init__(self, *, forward: Forward, prior_model: str | None = None, reduction: Literal["mean", "sum"] = "mean"):
        super().__init__()
        if prior_model is None:
            raise UserError("prior_model is not set: the model before it was trained on the target (model: after it)")
        self.forward, self.special = forward, forward.loading.special_tokens_in_text
        self.reads_answers = forward.score_tokens == "answer"
        self.prior_model, self.reduction = prior_model, reduction

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError for a model or a device that cannot be had."""
        from data_scoring.engines.likelihood import check_forward

        check_forward(self.forward, self.inputs().values())

    def inputs(self) -> dict[str, str]:
        """Both models: folder or hub id."""
        return {"model": self.forward.model, "prior_model": self.prior_model}

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray:
        """The loss reduction of every text, (n,); NaN for a text without a token to predict."""
        from data_scoring.engines.likelihood import read_rows

        after, before = read_rows(texts, self.inputs(), self.forward, self.special, work)
        for rows in (after, before):
            self.tell(rows.facts, rows.warnings)
        if not np.array_equal(after.documents.store.tokens, before.documents.store.tokens):
            raise UserError("model and prior_model cut rows into other tokens: their losses cannot be compared")
        reduction = after.means() - before.means()
        return reduction * after.scored_tokens if self.reduction == "sum" else reduction
