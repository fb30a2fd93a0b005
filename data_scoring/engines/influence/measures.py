"""What annotated scores measure: how much learnability differs between samples, and what the scores go along with.

Read from what the visited steps left in `sweep/`: dot products, norms and the norm of the co-state.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_common.files.work_folder import WorkFolder
from data_common.models.samples import Samples
from data_common.rows.texts import some
from data_scoring.engines.influence.settings import Formula

DIGITS = 4


def measure(formula: Formula, texts: Sequence[str], samples: Samples, work: WorkFolder) -> dict[str, Any]:
    """The step behind `annotate`: `measures` of its scores, as facts. samples: the annotated ones."""
    annotated = work.path / "annotate"

    def compute(_: Path) -> dict[str, Any]:
        breaks = line_breaks(some(texts, np.unique(samples.rows)), samples)
        others = {"length": samples.lengths, "line_breaks": breaks}
        try:
            gamma = np.load(annotated / "gamma.npy")
            return measures(gamma, annotated / "sweep", formula.visited, formula.lag, others)
        except FileNotFoundError as error:
            print(f"note: {error.filename} is not there any more: what the scores go along with is not told")
            return {}

    return work.step("measures", {}, ("annotate",), compute, alone=True)


def measures(
    gamma: np.ndarray, sweep: Path, visited: Sequence[int], lag: int | None, others: dict[str, np.ndarray]
) -> dict[str, float]:
    """Spearman's correlation of the scores with what they are made of and with `others`; what is constant is left out.

    learnability_spread: standard deviation of ||grad l_t|| / ||grad l_{t+lag}|| over the samples as a share of its
        mean, the mean over the visited steps t. cosine, learnability, gradient_norm: their means over these steps.

    gamma: the scores, (n,). sweep: folder of step-*.npz. visited: the steps that count. lag: None where the formula has
        no learnability. others: name -> (n,).
    """
    cosines, norms, ratios = [], [], []
    for step in visited:
        now = _read(sweep, step)
        norms.append(now["norms"])
        cosines.append(_ratio(now["dots"], now["norms"] * float(now["co_state_norm"])))
        if lag is not None:
            ratios.append(_ratio(now["norms"], _read(sweep, step + lag)["norms"]))
    found = {"cosine": np.mean(cosines, 0), "minus_gradient_norm": -np.mean(norms, 0)}
    spread = {}
    if ratios:
        spread["learnability_spread"] = float(np.mean([_ratio(one.std(), one.mean()) for one in ratios]))
        found["learnability"] = np.mean(ratios, 0)
    correlations = {f"spearman_with_{name}": _spearman(gamma, values) for name, values in (found | others).items()}
    return {name: round(value, DIGITS) for name, value in (spread | correlations).items() if value is not None}


def line_breaks(texts: Iterable[str], samples: Samples) -> np.ndarray:
    """Share of line breaks among the characters of each sample, (samples,).

    texts: of the rows that have samples, in order. samples: sorted by row.
    """
    share = np.zeros(len(samples))
    firsts = np.flatnonzero(np.diff(samples.rows, prepend=-1))
    for first, end, text in zip(firsts, [*firsts[1:], len(samples)], texts, strict=True):
        for number in range(first, end):
            start, stop = samples.spans[number]
            share[number] = text.count("\n", start, stop) / max(stop - start, 1)
    return share


def _read(sweep: Path, step: int) -> dict[str, np.ndarray]:
    with np.load(sweep / f"step-{step:06}.npz") as stored:
        return dict(stored)


def _spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's correlation; None where one of both is constant."""
    from scipy.stats import spearmanr

    return None if np.ptp(one) == 0 or np.ptp(other) == 0 else float(spearmanr(one, other).statistic)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """0 where a gradient vanishes."""
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=below != 0)
