"""Causal language-model pretraining that keeps the order of the file.

The recipe is that of DELT (arXiv 2506.21545, appendix): AdamW, cosine to a tenth of the learning rate, one epoch.
"""

from dataclasses import dataclass
from typing import Literal

from data_common.messages.errors import UserError
from data_common.rows.json_line import Text, document_text
from model_train.training import BaseTraining, Encoded

ABOUT = {
    "family": "language modelling",
    "needs": "a model, or its configuration",
    "cost": "a forward and a backward pass",
    "formula": "paper",
}

DEFAULT_CONFIG = "train.yaml"


@dataclass(kw_only=True)
class Training(BaseTraining):
    """Every token of every row is predicted from those before it.

    Args:
        text_field: text field of a row, or a list of them, joined by newlines
        packing: sequential = documents one after the other, cut into blocks without padding; none = one a sequence
        cross_document_attention: false = tokens of a packed block see their own document only, positions count from
            its beginning
    """

    text_field: str | list[str] = "text"
    packing: Literal["sequential", "none"] = "sequential"
    cross_document_attention: bool = True

    def __post_init__(self):
        super().__post_init__()
        if not self.cross_document_attention and self.max_length == 2:
            raise UserError("max_length=2 leaves blocks without a token to predict: cross_document_attention=true")

    def reading(self, source):
        """The text."""
        names = [self.text_field] if isinstance(self.text_field, str) else self.text_field
        return dict.fromkeys(names, Text), {}

    def encoder(self, tokenizer):
        """BOS (where the tokenizer has one) + text + EOS of every row that has any text."""
        from data_common.models.tokens import encode

        def documents(batch):
            texts = [document_text(values) for values in batch]
            kept = iter(encode([text for text in texts if text.strip()], tokenizer))
            none = Encoded([], ["rows_without_text"])
            return [Encoded([(next(kept), None)]) if text.strip() else none for text in texts]

        return documents

    def sequences(self, corpus, max_tokens: int | None, epochs: float):
        """Blocks of the stream, or the documents one by one."""
        from model_train.sequences import PackedBlocks, SeparateDocuments

        if self.packing == "none":
            return SeparateDocuments(corpus, self.max_length, max_tokens, epochs)
        return PackedBlocks(corpus, self.max_length, max_tokens, epochs, self.cross_document_attention)
