"""Learnability-Quality Scoring: what training on a row does for a small, high-quality target set.

LQS of DELT (arXiv 2506.21545, section 3, equation 9), on the optimal-control view of PDS (arXiv 2410.07064).
README.md beside this file has the formula, the choices and the cost.
"""

from typing import Literal

import numpy as np

from data_common.calls.config import Positive
from data_common.messages.errors import UserError
from data_scoring.engines.influence.scorer import InfluenceScorer, Sweep

ABOUT = {
    "family": "influence on a target",
    "needs": "a small trained causal LM; a target set",
    "cost": "simulated training of a causal LM, gradients of a sample of the rows, one forward pass of a small model",
    "formula": "paper",
}


class Scorer(InfluenceScorer):
    """gamma_n = sum_t lambda_{t+1} . grad l(x_n, theta_t) / || grad l(x_n, theta_{t+lag}) || over the visited steps t.

    Args:
        lag: the norm is taken this many steps after the dot product; "interval" = as many as the interval
    """

    def __init__(self, *, lag: Literal["interval"] | Positive = "interval", **common):
        super().__init__(**common)
        self.lag = self.interval if lag == "interval" else lag
        self.visited = [step for step in self.visited if step + self.lag <= self.steps]
        if not self.visited:
            raise UserError(f"no step counts: lag ({self.lag}) is larger than steps ({self.steps})")

    def formula(self) -> dict[str, int]:
        """The keys of its own that the formula depends on."""
        return {"lag": self.lag}

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
