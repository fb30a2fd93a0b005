"""A linear classifier that tells good text from bad, by examples of both.

As in DataComp-LM (arXiv 2406.11794, section 4.4), with logistic regression on hashed n-grams in place of fastText.
What it is shown decides what it finds (Data Filtering Networks, arXiv 2309.17425): README.md beside this file.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive, Seed
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.parallel.processes import cores
from data_common.rows.jsonl import open_source
from data_common.rows.texts import Texts, first_texts
from data_scoring.scorer import BaseScorer

ABOUT = {
    "family": "classifiers",
    "needs": "good text; better also bad text, with junk in it",
    "cost": "counting n-grams",
    "formula": "paper",
}

VERSIONS = {2: "n-grams fall into other buckets: tokens are hashed once"}
HELD_OUT = 0.1  # of the examples, by which the classifier is judged


class Scorer(BaseScorer):
    """Log-odds that a row is of the kind of positive_data rather than of negative_data; higher = more like the good.

    Args:
        positive_data: good text; JSONL file, glob or folder
        negative_data: bad text, with the junk that is to be found; null = a sample of the corpus, as DataComp-LM
        example_field: text field of both, or a list of fields, joined by newlines
        examples: of each of the two, at most, drawn evenly
        scorer_checkpoint: a classifier that a call left in OUT.work/fit; nothing is fitted
        ngrams: words of the longest n-grams
        buckets: that n-grams are hashed into
        regularization: C, the inverse strength of the L2 penalty
        workers: processes; 0 = one for each core
        seed: of the draw of the examples, and of those that are held out
    """

    higher_is_better = True

    def __init__(
        self,
        *,
        positive_data: str | None = None,
        negative_data: str | None = None,
        example_field: str | list[str] = "text",
        examples: Positive = 200_000,
        scorer_checkpoint: str | None = None,
        ngrams: Annotated[int, Meta(ge=1, le=5)] = 2,
        buckets: Annotated[int, Meta(ge=2, le=2**28)] = 2**20,
        regularization: Annotated[float, Meta(gt=0)] = 1.0,
        workers: Annotated[int, Meta(ge=0, le=1024)] = 0,
        seed: Seed = 0,
    ):
        super().__init__()
        if scorer_checkpoint is None and positive_data is None:
            raise UserError("positive_data is not set (only a scorer_checkpoint makes it unnecessary)")
        if positive_data is not None and positive_data == negative_data:
            raise UserError("positive_data and negative_data are the same: there is nothing to tell apart")
        self.positive_data, self.negative_data, self.example_field = positive_data, negative_data, example_field
        self.examples, self.scorer_checkpoint, self.seed = examples, scorer_checkpoint, seed
        self.ngrams, self.buckets, self.regularization = ngrams, buckets, regularization
        self.workers = workers or cores()

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError for examples or a classifier that are missing."""
        if self.scorer_checkpoint is not None:
            from data_scoring.engines.linear_student import load

            load(Path(self.scorer_checkpoint))
            return
        for key, path in self.inputs().items():
            with open_source(path, whole=False, key=key) as source:
                first_texts(source, self.example_field)

    def inputs(self) -> dict[str, str]:
        """The examples, or the classifier."""
        if self.scorer_checkpoint is not None:
            return {"scorer_checkpoint": self.scorer_checkpoint}
        paths = {"positive_data": self.positive_data, "negative_data": self.negative_data}
        return {name: path for name, path in paths.items() if path is not None}

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray:
        """The log-odds of every text, (n,)."""
        from data_scoring.engines.linear_student import load
        from data_scoring.engines.parts import compute_parts, saved_parts

        after = ["data", "reading"]
        if self.scorer_checkpoint is None:
            self._fit(texts, work)
            folder, after = work.path / "fit", [*after, "fit"]
        else:
            folder, after = Path(self.scorer_checkpoint), [*after, "scorer_checkpoint"]

        def apply(step: Path) -> dict[str, Any]:
            student = load(folder)
            compute_parts(texts, step, lambda part: {"score": student(part)}, self.workers, "scoring")
            return {"texts": len(texts)}

        work.step("score", {}, after, apply, alone=True)
        return np.concatenate([part["score"] for part in saved_parts(work.path / "score", len(texts))])

    def _fit(self, texts: Sequence[str], work: WorkFolder) -> None:
        from data_scoring.engines.linear_student import Linear, fit, held_out_auc

        settings = Linear(self.ngrams, self.buckets, self.regularization)

        def learn(folder: Path) -> dict[str, Any]:
            good, bad = self._examples("positive_data"), self._examples("negative_data", texts)
            in_both = self._in_both(good, bad)
            features, labels = settings.features(good + bad), np.repeat([1, 0], [len(good), len(bad)])
            fit(features, labels, settings).save(folder)
            counts = {"positives": len(good), "negatives": len(bad), "in_both": in_both}
            return counts | held_out_auc(features, labels, settings, HELD_OUT, self.seed)

        names = ("examples", "ngrams", "buckets", "regularization", "seed", "example_field")
        after = [*self.inputs(), *([] if self.negative_data else ["data", "reading"])]
        facts = work.step("fit", {name: getattr(self, name) for name in names}, after, learn, alone=True)
        self.facts |= facts
        twice = f" ({facts['in_both']:,} texts are both)" if facts.get("in_both") else ""
        print(f"examples: {facts['positives']:,} good, {facts['negatives']:,} bad{twice}; held-out AUC {facts['auc']}")
        if self.negative_data is None:
            print("note: negatives are a sample of the corpus: junk that is frequent in it is not found")

    def _in_both(self, good: Sequence[str], bad: Sequence[str]) -> int:
        """How many texts are good and bad. Raises: UserError where all are, and where there are none of one kind."""
        names = {"positive_data": good, "negative_data" if self.negative_data else "the corpus": bad}
        if empty := [name for name, some in names.items() if not some]:
            raise UserError(f"{empty[0]}: no row has any text")
        both = set(good) & set(bad)
        if len(both) == len({*good, *bad}):
            raise UserError(f"{' and '.join(names)} hold the same texts: there is nothing to tell apart")
        return len(both)

    def _examples(self, key: str, corpus: Sequence[str] = ()) -> list[str]:
        """At most `examples` texts, drawn evenly, of the data that a key names; of the corpus where it names none."""
        path = getattr(self, key)
        if path is None:
            return self._drawn(corpus)
        with open_source(path, key=key) as source:
            return self._drawn(Texts(source, self.example_field))

    def _drawn(self, texts: Sequence[str]) -> list[str]:
        count = len(texts)
        if count <= self.examples:
            return list(texts)
        chosen = np.zeros(count, bool)
        chosen[np.random.default_rng(self.seed).choice(count, self.examples, replace=False)] = True
        return [text for text, wanted in zip(islice(texts, count), chosen, strict=True) if wanted]
