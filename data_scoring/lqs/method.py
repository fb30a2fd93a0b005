"""Learnability-Quality Scoring: what training on a row does for a small, high-quality target set.

LQS of DELT (arXiv 2506.21545, section 3, equation 9), on the optimal-control view of PDS (arXiv 2410.07064).
README.md beside this file has the formula, the choices and the cost.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from data_common.calls.config import Positive
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_scoring.engines.influence.settings import Formula, Influence, Sweep
from data_scoring.scorer import BaseScorer

ABOUT = {
    "family": "influence on a target",
    "needs": "a small trained causal LM; a target set",
    "cost": "simulated training of a causal LM, gradients of a sample of the rows, one forward pass of a small model",
    "formula": "paper",
}


class Scorer(BaseScorer):
    """gamma_n = sum_t lambda_{t+1} . grad l(x_n, theta_t) / || grad l(x_n, theta_{t+lag}) || over the visited steps t.

    Args:
        lag: the norm is taken this many steps after the dot product; "interval" = as many as the interval
    """

    shares_work = True
    stops_early = True

    def __init__(self, *, influence: Influence, lag: Literal["interval"] | Positive = "interval"):
        super().__init__()
        self.influence, self.special, self.rewrites = influence, influence.special, influence.chunks
        steps = influence.simulation.steps
        self.lag = influence.simulation.interval if lag == "interval" else lag
        self.visited = [step for step in influence.simulation.visited if step + self.lag <= steps]
        if not self.visited:
            raise UserError(f"no step counts: lag ({self.lag}) is larger than steps ({steps})")
        self.formula = Formula("lqs", self.gamma, self.visited, self.lag)

    def gamma(self, sweep: Sweep, count: int) -> np.ndarray:
        """The score of each of `count` samples, (count,)."""
        gamma, norms = np.zeros(count), {}
        for step, annotate in sweep:
            if step not in self.visited and step - self.lag not in self.visited:
                continue
            dots, norms[step] = annotate()
            if step in self.visited:
                later = norms[step + self.lag]
                # A sample whose gradient vanishes has nothing to teach: it adds 0, not 0 / 0.
                gamma += np.divide(dots, later, out=np.zeros_like(dots), where=later > 0)
        return gamma

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError for models, target set, trackers or a device that cannot be had."""
        from data_scoring.engines.influence.checks import check

        check(self.influence, rows)

    def inputs(self) -> dict[str, str]:
        """Models and target set."""
        return self.influence.inputs()

    def rewrite(self, texts: Iterable[tuple[str | int, str]], total: int, work: WorkFolder) -> Path | None:
        """The file of chunks, for granularity: chunk. texts: (id, text) of the rows, `total` of them."""
        from data_scoring.engines.influence.annotate_fit_score import rewritten

        return rewritten(self.influence, texts, total, work)

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray | None:
        """The score of every text, (n,); NaN for a text without a token to predict; None when stopped before."""
        from data_scoring.engines.influence.annotate_fit_score import annotate_fit_score

        found = annotate_fit_score(texts, self.influence, self.formula, self.special, work)
        self.tell(found.facts, found.warnings)
        return found.scores
