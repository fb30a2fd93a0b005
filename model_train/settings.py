"""Keys that training methods share, in groups: batch sizes, learning rate, what a run continues, averaging."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from data_common.calls.config import Positive
from data_common.messages.errors import UserError
from data_common.messages.visible import brief

Share = Annotated[float, Meta(gt=0, le=1)]
END = {"cosine": 0.1, "linear": 0.0, "wsd": 0.0}  # of the shapes that end: their last rate, as a part of the highest


@dataclass(kw_only=True)
class BatchSizes:
    """Other batch sizes from places of the run on.

    Args:
        batch_size_schedule: list of {at, batch_size}: from the first optimizer step that begins at or behind this share
            of all tokens of the run, this takes the place of batch_size; null = batch_size throughout
    """

    batch_size_schedule: list[dict[str, int | float]] | None = None

    def __post_init__(self):
        last = 0.0
        for one in self.batch_size_schedule or ():
            if one.keys() != {"at", "batch_size"}:
                names = ", ".join(map(brief, one)) or "nothing"
                raise UserError(f"batch_size_schedule: {names} where at and batch_size are wanted")
            at, size = one["at"], one["batch_size"]
            if not 0 < at < 1:
                raise UserError(f"batch_size_schedule: at={at:g} is no share of the run between 0 and 1")
            if at <= last:
                raise UserError(f"batch_size_schedule: at={at:g} stands behind at={last:g}: ascending ones are wanted")
            if not 1 <= size < 2**31 or size != int(size):
                raise UserError(f"batch_size_schedule: batch_size={size:g} is no whole number above 0")
            last = at

    def changes(self) -> list[tuple[float, int]]:
        """(share of all tokens, batch size from there on), ascending."""
        return [(one["at"], int(one["batch_size"])) for one in self.batch_size_schedule or ()]


@dataclass(kw_only=True)
class Schedule:
    """The learning rate after a linear warm-up from 0.

    Args:
        scheduler: shape of the learning rate after the warm-up: cosine and linear fall to the last step, wsd (warm-up,
            stable, decay) holds it and falls at the end, inverse-sqrt falls with the root of the step
        min_learning_rate: learning rate at the end of cosine, linear and wsd; null = a tenth of the highest (cosine), 0
        decay_share: share of all steps in which wsd falls; null = 0.2
        decay_shape: shape in which wsd falls; null = 1-sqrt (arXiv 2405.18392)
    """

    scheduler: Literal["cosine", "linear", "constant", "wsd", "inverse-sqrt"] = "cosine"
    min_learning_rate: Annotated[float, Meta(ge=0)] | None = None
    decay_share: Share | None = None
    decay_shape: Literal["linear", "cosine", "1-sqrt"] | None = None

    def __post_init__(self):
        if self.min_learning_rate is not None and self.scheduler not in END:
            raise UserError(f"min_learning_rate is of {', '.join(END)} only: leave it null with {self.scheduler}")
        for name in ("decay_share", "decay_shape"):
            if getattr(self, name) is not None and self.scheduler != "wsd":
                raise UserError(f"{name} is of scheduler=wsd only: leave it null with {self.scheduler}")

    def end(self, highest: float) -> float:
        """The rate at the end, as a part of the highest, of a shape that ends."""
        lowest = self.min_learning_rate
        return END[self.scheduler] if lowest is None else lowest / highest

    def arguments(self, highest: float) -> dict[str, Any]:
        """Words of TrainingArguments for a shape that transformers has as it is wanted here."""
        if self.scheduler == "cosine":
            return {
                "lr_scheduler_type": "cosine_with_min_lr",
                "lr_scheduler_kwargs": {"min_lr_rate": self.end(highest)},
            }
        names = {"constant": "constant_with_warmup", "inverse-sqrt": "inverse_sqrt"}
        return {"lr_scheduler_type": names.get(self.scheduler, "linear")}

    def decay(self, steps: int, warmup: int) -> tuple[int, str] | None:
        """Last steps of a run in which the rate falls, and its shape; None where `arguments` say it all.

        Raises: UserError where warm-up and decay are longer than the run.
        """
        if self.scheduler == "linear" and self.min_learning_rate is not None:
            return max(1, steps - warmup), "linear"
        if self.scheduler != "wsd":
            return None
        share = 0.2 if self.decay_share is None else self.decay_share
        decay = max(1, round(share * steps))
        if warmup + decay > steps:
            raise UserError(
                f"the warm-up of {warmup:,} steps and the decay of {decay:,} are longer than the run of {steps:,}: "
                "lower warmup_steps (below 1 a share of the run) or decay_share"
            )
        return decay, self.decay_shape or "1-sqrt"


@dataclass(kw_only=True)
class Continuation:
    """Another training that this one goes on from, under a schedule of its own.

    Args:
        continue_from: MODEL_OUT of another training, or a checkpoint: its last weights and the state of its optimizer
            take the place of the weights of MODEL_IN, which has the same architecture; null = a new optimizer
        rewarmup_steps: optimizer steps of linear warm-up with continue_from, in place of warmup_steps; below 1 a share
            of all steps
    """

    continue_from: str | None = None
    rewarmup_steps: Annotated[float, Meta(ge=0, lt=2**31)] = 0

    def __post_init__(self):
        if self.rewarmup_steps and self.continue_from is None:
            raise UserError("rewarmup_steps is of continue_from only: warmup_steps is meant, or leave it 0")


@dataclass(kw_only=True)
class Averaging:
    """The mean of the weights at several steps near the end of a run.

    Args:
        average: weights that MODEL_OUT gets: none = the last; uniform = the mean of several; exponential = an average A
            that begins with the first and becomes decay M + (1 - decay) A at each other M. MODEL_OUT/last has the last
        average_last: weights that are averaged, those of the last step with them; null = 6
        average_every: optimizer steps between two of them
        average_decay: weight of the newer one in the exponential average; null = 0.2
    """

    average: Literal["none", "uniform", "exponential"] = "none"
    average_last: Annotated[int, Meta(ge=2)] | None = None
    average_every: Positive | None = None
    average_decay: Share | None = None

    def __post_init__(self):
        for name in ("average_last", "average_every"):
            if self.average == "none" and getattr(self, name) is not None:
                raise UserError(f"{name} is of average=uniform and exponential only: leave it null")
        if self.average_decay is not None and self.average != "exponential":
            raise UserError(f"average_decay is of average=exponential only: leave it null with {self.average}")
        if self.average != "none" and self.average_every is None:
            raise UserError(f"average={self.average} needs average_every, the steps between two weights")

    def steps(self, total: int) -> list[int]:
        """The steps (from 1) of a run of `total` whose weights are averaged, ascending; none without averaging.

        Raises: UserError where the first of them would be before the run.
        """
        if self.average == "none":
            return []
        last = 6 if self.average_last is None else self.average_last
        first = total - (last - 1) * self.average_every
        if first < 1:
            raise UserError(
                f"average_last={last} weights at a distance of average_every={self.average_every} steps do not fit "
                f"into a run of {total:,} steps: lower one of them"
            )
        return list(range(first, total + 1, self.average_every))

    def newest(self, number: int) -> float:
        """The weight of the `number`-th (from 1) in the mean of the first `number`, when it is added."""
        if self.average == "uniform" or number == 1:
            return 1 / number
        return 0.2 if self.average_decay is None else self.average_decay
