"""What gradient-influence scorers share: keys, tokens, and the simulated training of trajectory.py walked backwards."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from common import jsonl
from common.errors import UserError
from common.json_line import Text, document_text

Positive = Annotated[int, Meta(ge=1)]
Annotate = Callable[[], tuple[np.ndarray, np.ndarray]]


class InfluenceScorer:
    """Base of scorers that compare each row's gradient with the co-states of a simulated training.

    Args:
        annotator_model: the small, already trained causal LM whose further training is simulated; folder or hub id
        target_data: the small, high-quality target set; JSONL file, glob or folder
        target_field: text field(s) of the target set; a list is joined by newlines
        target_size: number of target rows, the first after a seeded shuffle; null = all
        max_length: tokens of a sample, BOS and EOS counted
        long_rows: cut = a longer row is represented by its first max_length tokens; mean = all its chunks of max_length
            are samples, and it gets the mean of their scores weighted by tokens
        steps: T, steps of the simulated training
        learning_rate: eta of its plain SGD
        batch_size: rows of one step, in file order
        interval: visited are the steps 0, interval, 2 interval, ...
        hessian: Hessian-vector products: exact, by finite difference of gradients (less memory and time), or left out
        batch_tokens: padded tokens of one forward and backward pass; memory against speed, not the scores
        seed: of the shuffle before target_size
        device: auto, cpu, cuda, cuda:1, mps, ...
        dtype: auto is float32
    """

    higher_is_better = True

    def __init__(
        self,
        *,
        annotator_model: str,
        target_data: str,
        target_field: str | list[str] = "text",
        target_size: Positive | None = None,
        max_length: Annotated[int, Meta(ge=2)] = 1024,
        long_rows: Literal["cut", "mean"] = "cut",
        steps: Positive = 100,
        learning_rate: Annotated[float, Meta(gt=0)] = 0.008,
        batch_size: Positive = 16,
        interval: Positive = 10,
        hessian: Literal["exact", "finite-difference", "none"] = "exact",
        batch_tokens: Positive = 16384,
        seed: Annotated[int, Meta(ge=0)] = 0,
        device: str = "auto",
        dtype: Literal["auto", "float64", "float32"] = "auto",
    ):
        self.annotator_model, self.target_data, self.target_size = annotator_model, target_data, target_size
        self.target_fields = [target_field] if isinstance(target_field, str) else target_field
        self.max_length, self.long_rows = max_length, long_rows
        self.steps, self.learning_rate, self.batch_size = steps, learning_rate, batch_size
        self.interval, self.hessian, self.batch_tokens, self.seed = interval, hessian, batch_tokens, seed
        self.device, self.dtype = device, dtype

    def inputs(self) -> dict[str, str]:
        """What the scores depend on beside the corpus: paths or hub ids."""
        return {"annotator_model": self.annotator_model, "target_data": self.target_data}

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """gamma of every text, (n,); NaN for a text without a token to predict."""
        from common import models
        from common.tokens import tokenize, windows

        target_texts = self._target_texts()
        tokenizer = models.load_tokenizer(self.annotator_model)
        longest = self.max_length if self.long_rows == "cut" else None
        rows = tokenize(texts, tokenizer, longest, len(texts), "tokenizing corpus")
        corpus, row = windows(rows, self.max_length)
        target = tokenize(target_texts, tokenizer, self.max_length, len(target_texts), "tokenizing target")
        row, corpus = row[corpus.lengths >= 2], corpus.take(np.flatnonzero(corpus.lengths >= 2))
        target = target.take(np.flatnonzero(target.lengths >= 2))
        if not len(target) or not len(corpus):
            raise UserError(f"{'target set' if len(corpus) else 'corpus'}: no row has a token to predict")
        model = models.load_on_device(self.annotator_model, tokenizer, self.device, self.dtype, default="float32")
        models.check_positions(model, self.max_length)
        gamma = self.gamma(model, corpus, target)
        if not np.isfinite(gamma).all():
            raise UserError(f"{(~np.isfinite(gamma)).sum():,} scores are no finite numbers: lower learning_rate")
        return weighted_mean(gamma, corpus.lengths - 1, row, len(texts))

    def gamma(self, model, corpus, target) -> np.ndarray:
        """The score of every document of the token store `corpus`, (n,): the method's formula."""
        raise TypeError(f"{type(self).__name__} has no formula")

    def reverse_sweep(self, model, corpus, target) -> Iterator[tuple[int, Annotate]]:
        """Train forward, then yield (t, annotate) for t = T .. 0 with the model at theta_t.

        annotate() gives lambda_{t+1} . grad l(x_n, theta_t), zeros for t = T, and || grad l(x_n, theta_t) ||; (n,).
        """
        from data_scoring.per_sample_gradients import PerSampleGradients
        from data_scoring.trajectory import Trajectory, annotate

        plan = Trajectory(self.steps, self.learning_rate, self.batch_size, self.batch_tokens, self.hessian)
        reader = PerSampleGradients(model, [corpus[0], corpus[len(corpus) - 1]])
        with plan.forward(model, corpus) as states:
            for step, co_state in plan.co_states(model, states, corpus, target):
                name = f"annotating at step {step}"
                yield step, lambda c=co_state, n=name: annotate(reader, corpus, c, self.batch_tokens, n)

    def _target_texts(self) -> list[str]:
        with jsonl.open_source(self.target_data) as source:
            rows = jsonl.read_rows(source, dict.fromkeys(self.target_fields, Text))
            texts = [document_text(values) for _, _, values in rows]
        texts = [text for text in texts if text.strip()]
        if not texts:
            raise UserError(f"target_data {self.target_data} holds no text")
        if self.target_size is not None:
            chosen = np.random.default_rng(self.seed).permutation(len(texts))[: self.target_size]
            texts = [texts[number] for number in chosen]
        return texts


def weighted_mean(values: np.ndarray, weights: np.ndarray, row: np.ndarray, rows: int) -> np.ndarray:
    """Mean of the values of each row, (rows,); NaN for a row without values. values, weights, row: (chunks,)."""
    total = np.bincount(row, weights, rows)
    return np.divide(np.bincount(row, values * weights, rows), total, out=np.full(rows, np.nan), where=total > 0)
