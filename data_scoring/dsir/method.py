"""DSIR: the importance weight of a row, from hashed n-grams of a target set and of the corpus.

Data Selection for Language Models via Importance Resampling (arXiv 2302.03169), as the authors' package data-selection
computes it. README.md beside this file has the formula and what differs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive
from data_common.files.work_folder import WorkFolder
from data_common.parallel.processes import cores
from data_common.rows.jsonl import open_source
from data_common.rows.texts import Texts, first_texts
from data_scoring.scorer import BaseScorer

if TYPE_CHECKING:
    from data_scoring.engines.ngrams import Ngrams

ABOUT = {
    "family": "n-grams",
    "needs": "a target set",
    "cost": "counting n-grams, twice",
    "formula": "exact",
}

Counted = Callable[[], Iterator["Ngrams"]]  # the n-grams of a corpus, part by part, read again at each call
SMALLEST = 1e-8  # added to a probability before its logarithm
SHARES = (0.1, 0.3, 0.5)  # of the rows, for which the KL reduction is told


class Scorer(BaseScorer):
    """sum over the n-grams of a row of log p_target(bucket) - log p_corpus(bucket); higher = more like the target.

    Args:
        target_data: what the rows shall be like; JSONL file, glob or folder
        target_field: its text field, or a list of them, joined by newlines
        ngrams: words of the longest n-grams
        buckets: that all n-grams are hashed into
        normalize: sum = the published weight, which grows with the length of a row; per-token = divided by its words
        target_smoothing: n-grams added to each bucket of the target
        min_tokens: a row of fewer words is too short to have a score (on_short)
        workers: processes; 0 = one for each core
    """

    higher_is_better = True

    def __init__(
        self,
        *,
        target_data: str,
        target_field: str | list[str] = "text",
        ngrams: Annotated[int, Meta(ge=1, le=8)] = 2,
        buckets: Annotated[int, Meta(ge=1, le=2**31)] = 10_000,
        normalize: Literal["sum", "per-token"] = "sum",
        target_smoothing: Annotated[float, Meta(ge=0)] = 0.0,
        min_tokens: Positive = 1,
        workers: Annotated[int, Meta(ge=0, le=1024)] = 0,
    ):
        super().__init__()
        self.target_data, self.target_field = target_data, target_field
        self.order, self.buckets = ngrams, buckets
        self.normalize, self.target_smoothing = normalize, target_smoothing
        self.min_tokens, self.workers = min_tokens, workers or cores()

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError for a target set that is missing or has no text."""
        with open_source(self.target_data, whole=False, key="target_data") as source:
            first_texts(source, self.target_field)

    def inputs(self) -> dict[str, str]:
        """The target set."""
        return {"target_data": self.target_data}

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray:
        """The weight of every text, (n,); NaN for one of fewer than min_tokens words."""
        with open_source(self.target_data, key="target_data") as source:
            wanted = self._count(Texts(source, self.target_field), work, "target", ("target_data",))
        corpus = self._count(texts, work, "corpus", ("data", "reading"))
        target, raw = self._histogram(wanted), self._histogram(corpus)
        ratio = log_ratio(target + self.target_smoothing, raw)
        sums = np.concatenate([part.sums(ratio) for part in corpus()])
        words = np.concatenate([part.words for part in corpus()])
        scores = sums / np.maximum(words, 1) if self.normalize == "per-token" else sums
        scores = np.where(words < self.min_tokens, np.nan, scores)
        self.facts |= {"words": int(words.sum()), "target_ngrams": int(target.sum())}
        self.facts |= self._reductions(corpus, scores, target, raw)
        return scores

    def _count(self, texts: Sequence[str], work: WorkFolder, name: str, after: Sequence[str]) -> Counted:
        """The n-grams of every text, made in a step of its own."""
        from data_scoring.engines.ngrams import Ngrams, hashed_ngrams
        from data_scoring.engines.parts import compute_parts, saved_parts

        def count(folder: Path) -> dict[str, Any]:
            ngrams = hashed_ngrams(self.order, self.buckets)
            compute_parts(texts, folder, lambda part: vars(ngrams(part)), self.workers, f"counting {name}")
            return {"texts": len(texts)}

        identity = {"ngrams": self.order, "buckets": self.buckets}
        identity |= {"field": self.target_field} if name == "target" else {}
        work.step(name, identity, after, count, alone=True)
        return lambda: (Ngrams(**arrays) for arrays in saved_parts(work.path / name, len(texts)))

    def _histogram(self, counted: Counted) -> np.ndarray:
        return sum((part.histogram(self.buckets) for part in counted()), np.zeros(self.buckets))

    def _reductions(self, corpus: Counted, scores: np.ndarray, target: np.ndarray, raw: np.ndarray) -> dict[str, float]:
        """KL(target || corpus), and by how much it falls where the rows of the highest weights are selected."""
        whole = divergence(target, raw)
        facts = {"kl_target_corpus": round(whole, 4)}
        ranks = np.argsort(np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable"), kind="stable")
        for share in SHARES:
            chosen, first = np.zeros(self.buckets), 0
            for part in corpus():
                some = ranks[first : first + len(part.counts)] < max(1, share * len(scores))
                chosen += part.of(some).histogram(self.buckets)
                first += len(part.counts)
            facts[f"kl_reduction_top_{share:.0%}"] = round(whole - divergence(target, chosen), 4)
        return facts


def log_ratio(target: np.ndarray, corpus: np.ndarray) -> np.ndarray:
    """log p_target - log p_corpus of each bucket, (buckets,), from how many n-grams fall into it."""
    return np.log(_shares(target) + SMALLEST) - np.log(_shares(corpus) + SMALLEST)


def divergence(target: np.ndarray, other: np.ndarray) -> float:
    """KL(target || other), in nats, of the distributions over buckets."""
    return float(_shares(target) @ log_ratio(target, other))


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / max(1, counts.sum())
