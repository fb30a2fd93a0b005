"""Base of the training methods: the keys that they share, and what a method adds."""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta

from data_common.calls.config import Positive, load_yaml
from data_common.messages.errors import UserError
from data_common.models.special_tokens import Special
from data_common.rows.json_line import BadRow
from data_common.rows.jsonl import BadRowPolicy, Source
from model_train.resuming import checkpoint_to_continue
from model_train.settings import Averaging, BatchSizes, Continuation, Schedule

Rate = Annotated[float, Meta(ge=0)]
Decay = Annotated[float, Meta(ge=0, lt=1)]


class TrainingRows(NamedTuple):
    """The rows of one file, and how they are to be read."""

    source: Source
    fingerprints: Sequence[Mapping[str, Any]]  # of its shards
    on_bad_row: BadRowPolicy = "error"
    max_rows: int | None = None
    weight_field: str | None = None  # of a row in the loss; None = all weigh the same


class Encoded(NamedTuple):
    """What is learned of a row."""

    texts: Sequence[tuple[Sequence[int], Sequence[bool] | None]]  # ids of each, and which of them are learned
    counted: Sequence[str] = ()  # facts that it is counted under


@dataclass(kw_only=True)
class BaseTraining(ABC):
    """Training on the Hugging Face Trainer, in the order of the file.

    Args:
        max_length: tokens of a sequence
        max_tokens: stop after predicting this many tokens, repeating the file in its order; null = epochs
        epochs: passes over the file where max_tokens is null
        batch_size: sequences per optimizer step and device, before accumulation
        gradient_accumulation_steps: forward and backward passes per optimizer step
        learning_rate: highest learning rate of AdamW; null = that of the architecture file MODEL_IN
        warmup_steps: optimizer steps of linear warm-up; below 1 a share of all steps; with continue_from rewarmup_steps
        adam_beta1: decay of the first moment
        adam_beta2: decay of the second moment
        adam_epsilon: added to the root of the second moment
        weight_decay: decoupled weight decay
        max_grad_norm: gradients are clipped to this norm; 0 = no clipping
        tokenizer: folder or hub id of the tokenizer; null = MODEL_IN
        from_scratch: auto = random weights where MODEL_IN has none; true = always; false = never
        attention: attention implementation of transformers
        gradient_checkpointing: recompute activations in the backward pass, less memory for a third more time
        chunked_loss: output layer and loss of a few positions at a time: less memory, faster with a tiny model
        compile: torch.compile the model: slower to start, faster on a GPU
        fsdp: YAML or JSON file with an FSDP configuration, to spread the model over several GPUs; null = none
        deepspeed: YAML or JSON file with a DeepSpeed configuration (ZeRO); null = none
        save_steps: optimizer steps between checkpoints
        save_total_limit: checkpoints kept, the newest; null = all
        logging_steps: optimizer steps between entries of the log
        heldout_data: JSONL file whose loss is measured on the way and at the end; null = none
        heldout_steps: optimizer steps between measurements of the held-out loss
        report_to: trackers, such as wandb, tensorboard or trackio; none = no tracker
        project: name of the project in the tracker
        seed: of new weights and dropout
        device: auto prefers a GPU
        dtype: auto = bfloat16 autocast where the device computes in it natively, else float32
        special_tokens_in_text: how text that spells a special token, such as </s>, is read: as text or as tokens
        trust_remote_code: true runs Python code that comes with a model or tokenizer; false refuses what needs it
    """

    shares_work: ClassVar[bool] = True
    reads_whole_rows: ClassVar[bool] = False  # whether the encoder gets (values, all fields) of a row, not its values

    max_length: Annotated[int, Meta(ge=2)] = 1024
    max_tokens: Positive | None = None
    epochs: Annotated[float, Meta(gt=0, lt=2**31)] = 1.0
    batch_size: Positive = 8
    batch_sizes: BatchSizes = field(default_factory=BatchSizes)
    gradient_accumulation_steps: Annotated[int, Meta(ge=1, lt=2**31)] = 4
    learning_rate: Annotated[float, Meta(gt=0)] | None = 6e-4
    schedule: Schedule = field(default_factory=Schedule)
    warmup_steps: Annotated[float, Meta(ge=0, lt=2**31)] = 2000
    adam_beta1: Decay = 0.9
    adam_beta2: Decay = 0.98
    adam_epsilon: Annotated[float, Meta(gt=0)] = 1e-6
    weight_decay: Rate = 0.01
    max_grad_norm: Rate = 1.0
    averaging: Averaging = field(default_factory=Averaging)
    continuation: Continuation = field(default_factory=Continuation)
    tokenizer: str | None = None
    from_scratch: Literal["auto"] | bool = "auto"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    gradient_checkpointing: bool = False
    chunked_loss: bool = False
    compile: bool = False
    fsdp: str | None = None
    deepspeed: str | None = None
    save_steps: Positive = 10000
    save_total_limit: Positive | None = None
    logging_steps: Positive = 10
    heldout_data: str | None = None
    heldout_steps: Positive = 1000
    report_to: str | list[str] = "none"
    project: str = "delt"
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 10
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["auto", "float64", "float32", "bfloat16"] = "auto"
    special_tokens_in_text: Special = "text"
    trust_remote_code: bool = False

    def __post_init__(self):
        lowest, highest = self.schedule.min_learning_rate, self.learning_rate
        if lowest is not None and highest is not None and lowest > highest:
            raise UserError(f"min_learning_rate={lowest:g} is above learning_rate={highest:g}")
        for name in ("fsdp", "deepspeed"):
            if self.chunked_loss and getattr(self, name) is not None:
                raise UserError(f"{name} spreads the output layer, which chunked_loss needs whole: drop one of them")
            if (path := getattr(self, name)) is not None:
                load_yaml(Path(path), name)  # broken, it is better known now
        if self.deepspeed and self.averaging.average != "none":
            raise UserError("deepspeed keeps weights that average cannot reach: average=none, or fsdp in its place")
        if self.continuation.continue_from is not None:
            self._check_continuation()
        if self.deepspeed and importlib.util.find_spec("deepspeed") is None:
            raise UserError(f"deepspeed={self.deepspeed}: it is not installed (pip install deepspeed)")

    def _check_continuation(self) -> None:
        if self.from_scratch is True:
            raise UserError("from_scratch=true draws new weights, continue_from has trained ones: drop one of them")
        for name in ("fsdp", "deepspeed"):
            if getattr(self, name) is not None:
                raise UserError(f"{name} has the optimizer's state in parts, which continue_from needs whole: drop one")

    @property
    def warmup(self) -> float:
        """Optimizer steps of warm-up; below 1 a share of all steps."""
        going_on = self.continuation.continue_from is not None
        return self.continuation.rewarmup_steps if going_on else self.warmup_steps

    def start(self) -> Path | None:
        """The checkpoint of another training that this one goes on from. Raises: UserError where there is none."""
        path = self.continuation.continue_from
        return None if path is None else checkpoint_to_continue(path)

    def inputs(self) -> dict[str, str]:
        """What the result depends on beside the data and MODEL_IN: name -> path or hub id. Raises: as `start`."""
        names = ("tokenizer", "heldout_data", "fsdp", "deepspeed")
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        return found | ({"continue_from": str(start)} if (start := self.start()) else {})

    @abstractmethod
    def reading(self, source: Source) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is read of a row, field -> type; what the tokens depend on beside rows and tokenizer.

        Raises: UserError where the rows are not of a kind that can be learned.
        """

    @abstractmethod
    def encoder(self, tokenizer) -> Callable[[Sequence[Any]], Sequence[Encoded | BadRow]]:
        """The function that makes tokens of the values of some rows, as `reading.read_corpus` takes it."""

    def told(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """What the summary and the manifest tell of how rows are read. identity: of `reading`."""
        return {}

    def warning(self, corpus, tokenizer, stops: Sequence[int]) -> str:
        """What is amiss with the documents, if anything, for a model that stops at these tokens."""
        return ""

    def adapted(self, model):
        """The model as it is trained."""
        return model

    def merged(self, model, folder: Path):
        """The trained model as it is saved in the folder."""
        return model

    @abstractmethod
    def sequences(self, corpus, max_tokens: int | None, epochs: float):
        """The `model_train.sequences.Sequences` of the documents."""
