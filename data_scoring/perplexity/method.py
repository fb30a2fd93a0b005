"""Perplexity, loss or bits per byte of every row under a causal language model.

Bits per byte as in The Pile (arXiv 2101.00027, section 3.1), which compares models of different tokenizers.
README.md beside this file has the formulas, the choices and the cost.
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
    "needs": "a causal LM",
    "cost": "one forward pass",
    "formula": "exact",
}

Metric = Literal["ppl", "nll", "bpb"]
LARGEST = np.log(np.finfo(np.float64).max)  # nats, beyond which a perplexity is no number


class Scorer(BaseScorer):
    """nll = -mean log p (nats per token), ppl = exp(nll), bpb = bits per UTF-8 byte.

    Args:
        metric: what goes to score_field: ppl, nll (which ranks as ppl does) or bpb (better to rank by)
        extra_metrics: further metrics, each written to a field of its own name
    """

    higher_is_better = False
    shares_work = True

    def __init__(self, *, forward: Forward, metric: Metric = "ppl", extra_metrics: list[Metric] | None = None):
        super().__init__()
        self.forward, self.special, self.metric = forward, forward.loading.special_tokens_in_text, metric
        self.reads_answers = forward.score_tokens == "answer"
        self.extra_directions = dict.fromkeys(extra_metrics or [], "lower")
        if metric in self.extra_directions:
            raise UserError(f"extra_metrics: {metric} is the metric already")

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError for a model or a device that cannot be had."""
        from data_scoring.engines.likelihood import check_forward

        check_forward(self.forward, self.inputs().values())

    def inputs(self) -> dict[str, str]:
        """The model: folder or hub id."""
        return {"model": self.forward.model}

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray:
        """The metric of every text, (n,); NaN for a text without a token to predict."""
        from data_scoring.engines.likelihood import read_rows

        [rows] = read_rows(texts, self.inputs(), self.forward, self.special, work)
        self.tell(rows.facts, rows.warnings)
        nll = -rows.means()
        values = {
            "nll": nll,
            "ppl": np.exp(np.minimum(nll, LARGEST)),
            "bpb": nll / np.log(2) * rows.text_tokens / rows.bytes,
        }
        self.extra = {name: values[name] for name in self.extra_directions}
        return values[self.metric]
