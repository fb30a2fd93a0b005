"""CoLoR-Filter: by how much training on the target lowers the loss of a model on a row.

Conditional Loss Reduction Filtering for Targeted Language Model Pre-training (arXiv 2406.10670, section 3).
The paper takes the same small model before and after fine-tuning on the target; both see the row alone.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_scoring.engines.likelihood.scorer import LikelihoodScorer

ABOUT = {
    "family": "likelihood of language models",
    "needs": "two causal LMs, before and after training on the target",
    "cost": "two forward passes",
    "formula": "paper",
}


class Scorer(LikelihoodScorer):
    """nll under prior_model - nll under model (nats); higher = more is gained by having learned the target.

    Args:
        prior_model: the model before it was trained on the target, with the tokenizer of `model`; folder or hub id
        reduction: mean = per predicted token, as the authors' code, whose rows have one length; sum = of the whole row,
            as the paper's formula, which favours long rows
    """

    higher_is_better = True

    def __init__(self, *, prior_model: str | None = None, reduction: Literal["mean", "sum"] = "mean", **keys):
        super().__init__(**keys)
        if prior_model is None:
            raise UserError("prior_model is not set: the model before it was trained on the target (model: after it)")
        self.prior_model, self.reduction = prior_model, reduction

    def inputs(self) -> dict[str, str]:
        """Both models: folder or hub id."""
        return super().inputs() | {"prior_model": self.prior_model}

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray:
        """The loss reduction of every text, (n,); NaN for a text without a token to predict."""
        from data_scoring.engines.likelihood.row_likelihood import mean

        after, before = (self.read(texts, work, name) for name in self.inputs())
        if not np.array_equal(after.documents.tokens, before.documents.tokens):
            raise UserError("model and prior_model cut rows into other tokens: their losses cannot be compared")
        reduction = after.summarise(mean) - before.summarise(mean)
        return reduction * after.predicted if self.reduction == "sum" else reduction
