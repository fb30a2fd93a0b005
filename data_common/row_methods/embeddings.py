"""The input that is a vector of each row: by a model, by a table of token vectors, or by TF-IDF."""

import dataclasses

import numpy as np

from data_common.chat.settings import TextFormat
from data_common.row_methods.row_input import Reading, RowInput
from data_common.rows.columns import text_column
from data_common.rows.copy_rows import UnusableRows
from data_common.rows.texts import RowTexts
from data_common.vectors.settings import Embedder


class Embedding(RowInput):
    """The vector of each row's text, (n, d) float16 of length 1, a memory map.

    Args:
        text_field: text field that is read, or a list of them, joined by newlines
    """

    def __init__(self, *, text_field: str | list[str] = "text", reading: TextFormat, embedding: Embedder):
        self.fields = (text_field,) if isinstance(text_field, str) else tuple(text_field)
        self.columns, self.reading, self.settings = [text_column(self.fields, reading)], reading, embedding

    def files(self) -> dict[str, str]:
        return self.settings.inputs() | self.reading.inputs()

    def check(self) -> None:
        """Raises UserError where the embedder does not load."""
        self.settings.check()

    def fill(self, reading: Reading) -> np.ndarray:
        """Raises UnusableRows for those without a token, UserError where the embedder does not load."""
        from data_common.vectors.embedding import EmbeddingSpace  # only methods that ask for vectors load it

        source, rows = reading.source, reading.table.rows
        special = self.reading.special(self.settings.special_tokens_in_text, [shard.name for shard in source.shards])
        settings = dataclasses.replace(self.settings, special_tokens_in_text=special)
        texts = RowTexts(source, rows, self.fields, self.reading.reader(source))
        vectors = EmbeddingSpace(settings, texts).vectors(texts, "rows")
        without = np.isnan(vectors[:, :1]).any(axis=1)
        if without.any():
            raise UnusableRows(source, rows.start[without], f"no token that embedder={settings.embedder} knows")
        return vectors

    def example(self, score: np.ndarray) -> np.ndarray:
        return np.stack([np.cos(score), np.sin(score)], axis=1).astype(np.float16)
