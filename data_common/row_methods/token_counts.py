"""The input that counts the tokens of each row: from a field, by a tokenizer, or estimated."""

import numpy as np

from data_common.chat.settings import TextFormat
from data_common.messages.errors import UserError
from data_common.models.special_tokens import Special
from data_common.models.tokens import ENCODE_BATCH, batched, encode
from data_common.row_methods.row_input import Reading, RowInput
from data_common.rows.columns import number, text_column
from data_common.rows.texts import RowTexts


class TokenCounts(RowInput):
    """The number of tokens of each row, (n,).

    Args:
        tokens_field: numeric field that holds the number of tokens of a row; null = counted from the text
        tokenizer: folder or hub id of a tokenizer to count with (BOS and EOS included); null = characters / 4
        text_field: text field that is counted, or a list of them, joined by newlines
        special_tokens_in_text: how text that spells a special token, such as </s>, is read: as text or as tokens
        trust_remote_code: true runs Python code that comes with the tokenizer; false refuses what needs it
    """

    def __init__(
        self,
        *,
        tokens_field: str | None = None,
        tokenizer: str | None = None,
        text_field: str | list[str] = "text",
        reading: TextFormat,
        special_tokens_in_text: Special = "text",
        trust_remote_code: bool = False,
    ):
        if tokens_field and tokenizer:
            raise UserError("tokens come from tokens_field or from a tokenizer: set one of them")
        self.tokenizer, self.trust_remote_code = tokenizer, trust_remote_code
        self.special: Special = special_tokens_in_text
        self.fields = (text_field,) if isinstance(text_field, str) else tuple(text_field)
        self.reading = reading
        self.columns = [number(tokens_field) if tokens_field else text_column(self.fields, reading)]

    def files(self) -> dict[str, str]:
        return ({"tokenizer": self.tokenizer} if self.tokenizer else {}) | self.reading.inputs()

    def check(self) -> None:
        """Raises UserError where the tokenizer does not load."""
        if self.tokenizer is not None:
            from data_common.models.checks import check_tokenizer  # imports torch

            check_tokenizer(self.tokenizer, self.trust_remote_code)

    def fill(self, reading: Reading) -> np.ndarray:
        """Raises UserError for a negative count, or where the tokenizer does not load."""
        source, table, [column] = reading.source, reading.table, self.columns
        given = table.columns[column]
        if column.kind == "number":
            if (given < 0).any():
                place = source.place(int(table.rows.start[np.argmax(given < 0)]))
                raise UserError(f"{place}: {column.fields[0]} is negative")
            return given
        if self.tokenizer is None:
            print("tokens: characters / 4, rounded up (neither tokens_field nor tokenizer is set)")
            return -(-given // 4)
        from data_common.models.loading import load_tokenizer  # imports torch

        special = self.reading.special(self.special, [shard.name for shard in source.shards])
        tokenizer = load_tokenizer(self.tokenizer, self.trust_remote_code, special)
        texts = RowTexts(source, table.rows, self.fields, self.reading.reader(source))
        lengths = (len(ids) for batch in batched(texts, ENCODE_BATCH) for ids in encode(batch, tokenizer))
        return np.fromiter(lengths, np.int64, len(table))

    def example(self, score: np.ndarray) -> np.ndarray:
        return np.arange(len(score)) + 1
