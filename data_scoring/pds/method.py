"""PMP-based Data Selection: how much training on a row lowers the area under the target loss.

The score of PDS (arXiv 2410.07064, theorem 2.1 and algorithm 1), every row scored directly.
README.md beside this file has the formula, the choices and the cost.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_common.files.work_folder import WorkFolder
from data_scoring.engines.influence.settings import Formula, Influence, Sweep
from data_scoring.scorer import BaseScorer

ABOUT = {
    "family": "influence on a target",
    "needs": "a small trained causal LM; a target set",
    "cost": "simulated training of a causal LM, gradients of a sample of the rows, one forward pass of a small model",
    "formula": "paper",
}


class Scorer(BaseScorer):
    """gamma_n = sum_t lambda_{t+1} . grad l(x_n, theta_t) over the visited steps 0, interval, ... < T."""

    shares_work = True
    stops_early = True

    def __init__(self, *, influence: Influence):
        super().__init__()
        self.influence, self.special, self.rewrites = influence, influence.special, influence.chunks
        self.visited = influence.simulation.visited
        self.formula = Formula("pds", self.gamma, self.visited)

    def gamma(self, sweep: Sweep, count: int) -> np.ndarray:
        """The score of each of `count` samples, (count,)."""
        gamma = np.zeros(count)
        for step, annotate in sweep:
            if step in self.visited:
                gamma += annotate()[0]
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
