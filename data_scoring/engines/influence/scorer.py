"""Base of the scorers that compare each row's gradient with the co-states of a simulated training: their keys.

What is done with the keys, step by step, is in steps.py; a method adds its formula.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from data_common.calls.config import Attention, Positive, Seed
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.models.special_tokens import Special
from data_scoring.scorer import BaseScorer

Rate = Annotated[float, Meta(gt=0)]
Step = Literal["tokenize", "proxy", "annotate", "fit", "score"]

# annotate() gives lambda_{t+1} . grad l(x_n, theta_t), zeros for t = T, and || grad l(x_n, theta_t) ||; (n,) each.
Annotate = Callable[[], tuple[np.ndarray, np.ndarray]]
Sweep = Iterable[tuple[int, Annotate]]  # (t, annotate) for t = T .. 0


class InfluenceScorer(BaseScorer):
    """Five steps: tokenize, draw a proxy sample, annotate it, fit a data scorer to it, score every row with that.

    Args:
        annotator_model: the small, already trained causal LM whose further training is simulated; folder or hub id
        target_data: the small, high-quality target set; JSONL file, glob or folder
        target_field: text field(s) of the target set; a list is joined by newlines
        target_size: number of target rows, the first after a seeded shuffle; null = all
        max_length: tokens of a sample, BOS and EOS counted
        long_rows: cut = a longer row is represented by its first max_length tokens; mean = all its chunks of max_length
            are samples, and it gets the mean of their scores weighted by tokens
        granularity: row = every row of the file gets a score; chunk = documents are joined by EOS and cut at sentence
            ends into chunks of at most max_length tokens, and OUT holds the chunks
        proxy_size: rows that are annotated; where the file holds no more, the score is the annotation itself
        steps: T, steps of the simulated training
        learning_rate: eta of its plain SGD
        batch_size: rows of one step, in file order
        interval: visited are the steps 0, interval, 2 interval, ...
        hessian: Hessian-vector products: exact, by finite difference of gradients (less time), or left out
        batch_tokens: padded tokens of one forward and backward pass; memory against speed, not the scores
        scorer_model: encoder or causal LM that becomes the data scorer; folder or hub id; null = annotator_model
        scorer_checkpoint: a fitted data scorer, folder or hub id: scores with it, and nothing is annotated
        scorer_max_length: tokens that the data scorer reads of a sample; null = max_length
        scorer_epochs: passes over the annotated rows; the epoch with the best Spearman counts
        scorer_learning_rate: highest learning rate of AdamW, with a cosine schedule
        scorer_batch_size: samples of one optimizer step
        scorer_batch_tokens: padded tokens of one forward pass when scoring; null = scorer_max_length on a CPU, else
            batch_tokens
        step: stop after this step; those before it are run where they are not up to date
        report_to: trackers, such as wandb or tensorboard, of annotate and fit; none = no tracker
        project: name of the project in the tracker
        seed: of the draws of target and proxy rows, of the new head, and of the order in which it is fitted
        device: auto, cpu, cuda, mps; CUDA_VISIBLE_DEVICES chooses the GPU (cuda:1 where nothing is fitted)
        dtype: auto is float32; bfloat16 = autocast when gradients are read and rows scored, training stays float32
        attention: of the annotator; sdpa (eager where the architecture has no sdpa) or eager
        special_tokens_in_text: how text that spells a special token, such as </s>, is read: as text or as tokens
            (granularity=chunk: always as tokens, since EOS joins documents)
        trust_remote_code: true runs Python code that comes with a model or tokenizer; false refuses what needs it
    """

    shares_work = True
    stops_early = True

    def __init__(
        self,
        *,
        annotator_model: str | None = None,
        target_data: str | None = None,
        target_field: str | list[str] = "text",
        target_size: Positive | None = None,
        max_length: Annotated[int, Meta(ge=2)] = 1024,
        long_rows: Literal["cut", "mean"] = "cut",
        granularity: Literal["row", "chunk"] = "row",
        proxy_size: Positive = 163840,
        steps: Positive = 100,
        learning_rate: Rate = 0.008,
        batch_size: Positive = 16,
        interval: Positive = 10,
        hessian: Literal["exact", "finite-difference", "none"] = "exact",
        batch_tokens: Positive = 16384,
        scorer_model: str | None = None,
        scorer_checkpoint: str | None = None,
        scorer_max_length: Annotated[int, Meta(ge=2)] | None = None,
        scorer_epochs: Positive = 5,
        scorer_learning_rate: Rate = 1e-4,
        scorer_batch_size: Positive = 32,
        scorer_batch_tokens: Positive | None = None,
        step: Step = "score",
        report_to: str | list[str] = "none",
        project: str = "delt",
        seed: Seed = 0,
        device: str = "auto",
        dtype: Literal["auto", "float64", "float32", "bfloat16"] = "auto",
        attention: Attention = "sdpa",
        special_tokens_in_text: Special = "text",
        trust_remote_code: bool = False,
    ):
        super().__init__()
        if scorer_checkpoint is None:
            for name, value in (("annotator_model", annotator_model), ("target_data", target_data)):
                if value is None:
                    raise UserError(f"{name} is not set (only a scorer_checkpoint makes it unnecessary)")
            if ":" in device:  # the trainer of the data scorer takes the first GPU that it sees
                raise UserError(f"device={device}: choose the GPU by CUDA_VISIBLE_DEVICES, and device=cuda")
        self.annotator_model, self.target_data, self.target_size = annotator_model, target_data, target_size
        self.target_fields = [target_field] if isinstance(target_field, str) else target_field
        self.max_length, self.long_rows, self.granularity = max_length, long_rows, granularity
        self.proxy_size = proxy_size
        self.steps, self.learning_rate, self.batch_size = steps, learning_rate, batch_size
        self.interval, self.hessian, self.batch_tokens = interval, hessian, batch_tokens
        self.visited = list(range(0, steps, interval))  # the steps that count
        self.lag: int | None = None  # distance of a later norm that the formula divides by
        self.scorer_model = scorer_model or annotator_model
        self.scorer_checkpoint, self.scorer_max_length = scorer_checkpoint, scorer_max_length or max_length
        self.scorer_epochs, self.scorer_learning_rate = scorer_epochs, scorer_learning_rate
        self.scorer_batch_size, self.scorer_batch_tokens = scorer_batch_size, scorer_batch_tokens
        self.step, self.report_to, self.project = step, report_to, project
        self.seed, self.device, self.dtype, self.attention = seed, device, dtype, attention
        self.special: Special = "tokens" if granularity == "chunk" else special_tokens_in_text
        self.trust_remote_code = trust_remote_code

    def gamma(self, sweep: Sweep, count: int) -> np.ndarray:
        """The score of each of `count` samples, (count,): the method's formula."""
        raise TypeError(f"{type(self).__name__} has no formula")

    def steps_read(self) -> list[int]:
        """The steps at which the samples' gradients are read: those that count, and those that have the later norms."""
        return sorted({*self.visited, *(step + self.lag for step in self.visited if self.lag is not None)})

    def formula(self) -> dict[str, int]:
        """The keys of the method's own that the formula depends on."""
        return {}

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError for models, target set, trackers or a device that cannot be had."""
        from data_scoring.engines.influence.checks import check

        check(self, rows)

    def inputs(self) -> dict[str, str]:
        """What the scores depend on beside the corpus: paths or hub ids."""
        if self.scorer_checkpoint is not None:
            return {"scorer_checkpoint": self.scorer_checkpoint}
        names = ("annotator_model", "target_data", "scorer_model")
        return {name: getattr(self, name) for name in names}

    def rewrite(self, texts: Iterable[tuple[str | int, str]], total: int, work: WorkFolder) -> Path | None:
        """The file of chunks, for granularity: chunk. texts: (id, text) of the rows, `total` of them."""
        if self.granularity == "row":
            return None
        from data_scoring.engines.influence.chunks import chunk

        return chunk(self, texts, total, work)

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray | None:
        """The score of every text, (n,); NaN for a text without a token to predict; None when stopped before."""
        from data_scoring.engines.influence.annotate_fit_score import Steps

        return Steps(self, texts, work).run()
