"""The keys of the scorers that compare gradients along a simulated training, and what each of these adds to them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from data_common.calls.config import Positive, Seed
from data_common.messages.errors import UserError
from data_common.models.special_tokens import Special
from data_scoring.engines.settings import Loading

Rate = Annotated[float, Meta(gt=0)]
Length = Annotated[int, Meta(ge=2)]
Step = Literal["tokenize", "proxy", "annotate", "fit", "score"]
Hessian = Literal["exact", "finite-difference", "none"]

# annotate() gives lambda_{t+1} . grad l(x_n, theta_t), zeros for t = T, and || grad l(x_n, theta_t) ||; (n,) each.
Annotate = Callable[[], tuple[np.ndarray, np.ndarray]]
Sweep = Iterable[tuple[int, Annotate]]  # (t, annotate) for t = T .. 0


@dataclass(frozen=True)
class Formula:
    """The score of a sample, as a method defines it."""

    method: str  # its name
    gamma: Callable[[Sweep, int], np.ndarray]  # (sweep, number of samples) -> the score of each sample, (samples,)
    visited: Sequence[int]  # the steps that count
    lag: int | None = None  # distance of a later norm that the formula divides by

    def steps_read(self) -> list[int]:
        """The steps at which the samples' gradients are read: those that count, and those that have the later norms."""
        return sorted({*self.visited, *(step + self.lag for step in self.visited if self.lag is not None)})

    def identity(self) -> dict[str, int]:
        """The keys of the method's own that the scores depend on."""
        return {} if self.lag is None else {"lag": self.lag}


@dataclass(frozen=True, kw_only=True)
class Target:
    """The target set.

    Args:
        target_data: the small, high-quality target set; JSONL file, glob or folder
        target_field: text field(s) of the target set; a list is joined by newlines
        target_size: number of target rows, the first after a seeded shuffle; null = all
    """

    target_data: str | None = None
    target_field: str | list[str] = "text"
    target_size: Positive | None = None

    @property
    def fields(self) -> list[str]:
        """The text fields."""
        return [self.target_field] if isinstance(self.target_field, str) else self.target_field


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What is a sample.

    Args:
        max_length: tokens of a sample, BOS and EOS counted
        long_rows: cut = a longer row is represented by its first max_length tokens; mean = all its chunks of max_length
            are samples, and it gets the mean of their scores weighted by tokens
        granularity: row = every row of the file gets a score; chunk = documents are joined by EOS and cut at sentence
            ends into chunks of at most max_length tokens, and OUT holds the chunks
        proxy_size: rows that are annotated; where the file holds no more, the score is the annotation itself
    """

    max_length: Length = 1024
    long_rows: Literal["cut", "mean"] = "cut"
    granularity: Literal["row", "chunk"] = "row"
    proxy_size: Positive = 163840


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The simulated training of the annotator.

    Args:
        steps: T, steps of the simulated training
        learning_rate: eta of its plain SGD
        batch_size: rows of one step, in file order
        interval: visited are the steps 0, interval, 2 interval, ...
        hessian: Hessian-vector products: exact, by finite difference of gradients (less time), or left out
        batch_tokens: padded tokens of one forward and backward pass; memory against speed, not the scores
    """

    steps: Positive = 100
    learning_rate: Rate = 0.008
    batch_size: Positive = 16
    interval: Positive = 10
    hessian: Hessian = "exact"
    batch_tokens: Positive = 16384

    @property
    def visited(self) -> list[int]:
        """The steps 0, interval, 2 interval, ... < T."""
        return list(range(0, self.steps, self.interval))


@dataclass(frozen=True, kw_only=True)
class Student:
    """The data scorer, and how it is fitted.

    Args:
        scorer_model: encoder or causal LM that becomes the data scorer; folder or hub id; null = annotator_model
        scorer_checkpoint: a fitted data scorer, folder or hub id: scores with it, and nothing is annotated
        scorer_max_length: tokens that the data scorer reads of a sample; null = max_length
        scorer_epochs: passes over the annotated rows; the epoch with the best Spearman counts
        scorer_learning_rate: highest learning rate of AdamW, with a cosine schedule
        scorer_batch_size: samples of one optimizer step
        scorer_batch_tokens: padded tokens of one forward pass when scoring; null = scorer_max_length on a CPU, else
            batch_tokens
    """

    scorer_model: str | None = None
    scorer_checkpoint: str | None = None
    scorer_max_length: Length | None = None
    scorer_epochs: Positive = 5
    scorer_learning_rate: Rate = 1e-4
    scorer_batch_size: Positive = 32
    scorer_batch_tokens: Positive | None = None


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where losses are reported to.

    Args:
        report_to: trackers, such as wandb or tensorboard, of annotate and fit; none = no tracker
        project: name of the project in the tracker
    """

    report_to: str | list[str] = "none"
    project: str = "delt"


@dataclass(frozen=True, kw_only=True)
class Influence:
    """Annotate a proxy sample of the corpus, fit a data scorer to it, score every row with that.

    Args:
        annotator_model: the small, already trained causal LM whose further training is simulated; folder or hub id
        step: stop after this step; those before it are run where they are not up to date
        seed: of the draws of target and proxy rows, of the new head, and of the order in which it is fitted
        device: auto, cpu, cuda, mps; CUDA_VISIBLE_DEVICES chooses the GPU (cuda:1 where nothing is fitted)
        dtype: auto is float32; bfloat16 = autocast when gradients are read and rows scored, training stays float32
        attention: of the annotator; sdpa (eager where the architecture has no sdpa) or eager
        special_tokens_in_text: how text that spells a special token, such as </s>, is read: as text or as tokens
            (granularity=chunk: always as tokens, since EOS joins documents)
    """

    annotator_model: str | None = None
    target: Target
    sampling: Sampling
    simulation: Simulation
    student: Student
    step: Step = "score"
    tracking: Tracking
    seed: Seed = 0
    loading: Loading

    def __post_init__(self):
        """Raises: UserError for keys that do not go together."""
        if self.student.scorer_checkpoint is not None:
            return
        for name, value in (("annotator_model", self.annotator_model), ("target_data", self.target.target_data)):
            if value is None:
                raise UserError(f"{name} is not set (only a scorer_checkpoint makes it unnecessary)")
        if ":" in (device := self.loading.device):  # the trainer of the data scorer takes the first GPU that it sees
            raise UserError(f"device={device}: choose the GPU by CUDA_VISIBLE_DEVICES, and device=cuda")

    @property
    def chunks(self) -> bool:
        """Whether chunks take the place of the rows."""
        return self.sampling.granularity == "chunk"

    @property
    def special(self) -> Special:
        """How text that spells special tokens is read."""
        return "tokens" if self.chunks else self.loading.special_tokens_in_text

    @property
    def scorer_model(self) -> str | None:
        """The model that becomes the data scorer."""
        return self.student.scorer_model or self.annotator_model

    @property
    def scorer_max_length(self) -> int:
        """Tokens that the data scorer reads of a sample."""
        return self.student.scorer_max_length or self.sampling.max_length

    def inputs(self) -> dict[str, str]:
        """What the scores depend on beside the corpus: paths or hub ids."""
        if self.student.scorer_checkpoint is not None:
            return {"scorer_checkpoint": self.student.scorer_checkpoint}
        models = {"annotator_model": self.annotator_model, "target_data": self.target.target_data}
        return models | {"scorer_model": self.scorer_model}
