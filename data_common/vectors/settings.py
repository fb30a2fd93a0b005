"""The keys of an embedder, the same for every method that asks for vectors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from data_common.calls.config import Positive
from data_common.messages.errors import UserError
from data_common.models.special_tokens import Special
from data_common.vectors.static_table import StaticTable, is_static_table

TFIDF = "tfidf"
Pooling = Literal["mean", "position-weighted", "last", "cls"]
MaxLength = Annotated[int, Meta(ge=4)]  # tokens: CLS, SEP and some between them


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """What turns a text into a vector.

    Args:
        embedder: folder or hub id of an encoder or a causal language model; folder of a table of token vectors
            (model2vec); tfidf = words of the text, weighted and reduced by a fit on the corpus, without any model
        pooling: of the last hidden states of a model's tokens: mean, position-weighted (late tokens count more), last
            (token of the text), or cls (first token of an encoder)
        embedding_max_length: tokens of a text that are read; what is behind them does not count
        embedding_dimensions: numbers of a vector of tfidf; those of others are given
        embedding_batch_tokens: padded tokens of one forward pass; null = 1024 on a CPU, else 16384
        device: auto, cpu, cuda, cuda:1, mps, ...
        dtype: auto is bfloat16 (autocast) where the device computes in it natively, else float32
        special_tokens_in_text: how text that spells a special token, such as </s>, is read: as text or as tokens
        trust_remote_code: true runs Python code that comes with a model or tokenizer; false refuses what needs it
    """

    embedder: str = TFIDF
    pooling: Pooling = "mean"
    embedding_max_length: MaxLength = 512
    embedding_dimensions: Positive = 256
    embedding_batch_tokens: Positive | None = None
    device: str = "auto"
    dtype: Literal["auto", "float64", "float32", "bfloat16"] = "auto"
    special_tokens_in_text: Special = "text"
    trust_remote_code: bool = False

    def __post_init__(self):
        """Raises: UserError for another spelling of tfidf."""
        spelling = self.embedder.lower().replace("-", "").replace("_", "")
        if spelling == TFIDF != self.embedder and not Path(self.embedder).exists():
            raise UserError(f"embedder={self.embedder}: no such folder; the embedder without a model is called tfidf")

    @property
    def is_model(self) -> bool:
        """Whether it is a model of transformers."""
        return self.embedder != TFIDF and not is_static_table(self.embedder)

    def inputs(self) -> dict[str, str]:
        """Path or hub id that vectors depend on."""
        return {} if self.embedder == TFIDF else {"embedder": self.embedder}

    def check(self) -> None:
        """Raises UserError where it cannot be had, as far as that takes seconds: no weights of a model are loaded."""
        if self.is_model:
            from data_common.models import loading
            from data_common.models.checks import check_model

            loading.pick_dtype(self.dtype, loading.pick_device(self.device))
            limits = {"max_length": self.embedding_max_length, "key": "embedding_max_length"}
            check_model(self.embedder, **limits, trust_remote_code=self.trust_remote_code, backbone=True)
        elif self.embedder != TFIDF:
            StaticTable(self.embedder, self.embedding_max_length)
