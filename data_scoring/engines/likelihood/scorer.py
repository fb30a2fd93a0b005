"""Base of the scorers that read token log-probabilities of a causal language model: their keys."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from data_common.calls.config import Attention, Positive
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.models.special_tokens import Special
from data_scoring.scorer import BaseScorer

if TYPE_CHECKING:
    from data_scoring.engines.likelihood.row_likelihood import RowLikelihood


class LikelihoodScorer(BaseScorer):
    """Two steps for a model: tokenize every row, and save the log-probability of every token; a method sums them up.

    Args:
        model: causal language model; folder or hub id
        max_length: tokens of a window; a longer row is read in several
        stride: a window begins this many tokens behind the one before, so that every token but those of the first has
            max_length - stride tokens of context or more; null = max_length: windows do not overlap
        batch_tokens: padded tokens of one forward pass; null = 1024 on a CPU, else 16384, but at least max_length
        device: auto, cpu, cuda, cuda:1, mps, ...
        dtype: auto is bfloat16 (autocast) where the device computes in it natively, else float32
        attention: sdpa (eager where the architecture has no sdpa) or eager
        special_tokens_in_text: how text that spells a special token, such as </s>, is read: as text or as tokens
        trust_remote_code: true runs Python code that comes with a model or tokenizer; false refuses what needs it
    """

    shares_work = True

    def __init__(
        self,
        *,
        model: str | None = None,
        max_length: Annotated[int, Meta(ge=2)] = 1024,
        stride: Positive | None = None,
        batch_tokens: Positive | None = None,
        device: str = "auto",
        dtype: Literal["auto", "float64", "float32", "bfloat16"] = "auto",
        attention: Attention = "sdpa",
        special_tokens_in_text: Special = "text",
        trust_remote_code: bool = False,
    ):
        super().__init__()
        if model is None:
            raise UserError("model is not set: the folder or hub id of a causal language model")
        if stride is not None and stride > max_length:
            raise UserError(f"stride ({stride}) is larger than max_length ({max_length}): tokens would be left out")
        self.model, self.max_length, self.stride = model, max_length, stride or max_length
        self.batch_tokens, self.device, self.dtype = batch_tokens, device, dtype
        self.attention, self.special = attention, special_tokens_in_text
        self.trust_remote_code = trust_remote_code

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError for a model or a device that cannot be had."""
        from data_common.models import loading
        from data_common.models.checks import check_model

        loading.pick_dtype(self.dtype, loading.pick_device(self.device))
        for path in self.inputs().values():
            check_model(path, self.max_length, trust_remote_code=self.trust_remote_code)

    def inputs(self) -> dict[str, str]:
        """The model: folder or hub id."""
        return {"model": self.model}

    def read(self, texts: Sequence[str], work: WorkFolder, name: str = "model") -> "RowLikelihood":
        """The log-probabilities of the tokens of all rows by one of `inputs()`; computed where they are not there."""
        from data_scoring.engines.likelihood.row_likelihood import RowLikelihood

        return RowLikelihood(self, texts, work, name)
