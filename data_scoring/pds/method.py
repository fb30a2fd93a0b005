"""PMP-based Data Selection: how much training on a row lowers the area under the target loss.

The score of PDS (arXiv 2410.07064, theorem 2.1 and algorithm 1), every row scored directly.
README.md beside this file has the formula, the choices and the cost.
"""

import numpy as np

from data_scoring.engines.influence.scorer import InfluenceScorer, Sweep

ABOUT = {
    "family": "influence on a target",
    "needs": "a small trained causal LM; a target set",
    "cost": "simulated training of a causal LM, gradients of a sample of the rows, one forward pass of a small model",
    "formula": "paper",
}


class Scorer(InfluenceScorer):
    """gamma_n = sum_t lambda_{t+1} . grad l(x_n, theta_t) over the visited steps 0, interval, ... < T."""

    def gamma(self, sweep: Sweep, count: int) -> np.ndarray:
        """The score of each of `count` samples, (count,)."""
        gamma = np.zeros(count)
        for step, annotate in sweep:
            if step in self.visited:
                gamma += annotate()[0]
        return gamma
