"""Keys that several scorers have, as dataclasses: a method's signature takes them, an engine reads them."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from data_common.calls.config import Attention, Positive
from data_common.messages.errors import UserError
from data_common.models.special_tokens import Special


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Where and how a model computes.

    Args:
        device: auto, cpu, cuda, cuda:1, mps, ...
        dtype: auto is bfloat16 (autocast) where the device computes in it natively, else float32
        attention: sdpa (eager where the architecture has no sdpa) or eager
        special_tokens_in_text: how text that spells a special token, such as </s>, is read: as text or as tokens
        trust_remote_code: true runs Python code that comes with a model or tokenizer; false refuses what needs it
    """

    device: str = "auto"
    dtype: Literal["auto", "float64", "float32", "bfloat16"] = "auto"
    attention: Attention = "sdpa"
    special_tokens_in_text: Special = "text"
    trust_remote_code: bool = False


@dataclass(frozen=True, kw_only=True)
class Forward:
    """How rows are read by a causal language model.

    Args:
        model: causal language model; folder or hub id
        max_length: tokens of a window; a longer row is read in several
        stride: a window begins this many tokens behind the one before, so that every token but those of the first has
            max_length - stride tokens of context or more; null = max_length: windows do not overlap
        batch_tokens: padded tokens of one forward pass; null = 1024 on a CPU, else 16384, but at least max_length
        score_tokens: all tokens of a row; or those of its answers, given all before them (with text_format)
    """

    model: str | None = None
    max_length: Annotated[int, Meta(ge=2)] = 1024
    stride: Positive | None = None
    batch_tokens: Positive | None = None
    score_tokens: Literal["all", "answer"] = "all"
    loading: Loading

    def __post_init__(self):
        """Raises: UserError for keys that do not go together."""
        if self.model is None:
            raise UserError("model is not set: the folder or hub id of a causal language model")
        if self.stride is not None and self.stride > self.max_length:
            raise UserError(
                f"stride ({self.stride}) is larger than max_length ({self.max_length}): tokens would be left out"
            )
