"""The rows as token ids in the files of another trainer, in their order: Megatron-LM, llm.c, Streaming, Parquet.

The layouts are those of the trainers' own writers, as https://github.com/NVIDIA/Megatron-LM,
https://github.com/karpathy/llm.c and https://github.com/mosaicml/streaming publish them; a document is that of
`pretrain`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from data_common.messages.errors import UserError
from data_common.models.special_tokens import FACT, Special, as_meant, warning
from data_common.rows.jsonl import BadRowPolicy, Source
from model_train.conversion import STEP, BaseConversion

ABOUT = {
    "family": "for other trainers",
    "needs": "a tokenizer, as MODEL_IN",
    "cost": "encoding the text",
    "formula": "exact",
}

ONE_FILE = ("megatron", "nanogpt")
ShardTokens = Annotated[int, Meta(ge=1, le=2**30)]


class Conversion(BaseConversion):
    """Documents, one a row with text, as token ids.

    Args:
        format: of the files: Megatron-LM, nanoGPT, llm.c and modded-nanogpt, MosaicML Streaming, or Parquet
        text_field: text field of a row, or a list of them, joined by newlines
        shard_tokens: tokens of a file at most, whole documents; null = 100 million (llm.c, parquet) or
            16,777,216 (mds); megatron and nanogpt have one file
        special_tokens_in_text: how text that spells a special token, such as </s>, is read: as text or as tokens
        trust_remote_code: true runs Python code that comes with a tokenizer; false refuses what needs it
    """

    def __init__(
        self,
        *,
        format: Literal["megatron", "nanogpt", "llm.c", "mds", "parquet"] = "megatron",
        text_field: str | list[str] = "text",
        shard_tokens: ShardTokens | None = None,
        special_tokens_in_text: Special = "text",
        trust_remote_code: bool = False,
    ):
        if shard_tokens is not None and format in ONE_FILE:
            raise UserError(f"format={format} is one file: shard_tokens=null")
        self.format, self.text_field, self.shard_tokens = format, text_field, shard_tokens
        self.special, self.trust_remote_code = special_tokens_in_text, trust_remote_code

    def check(self, source: Source, tokenizer: str, on_bad_row: BadRowPolicy) -> None:
        """Raises UserError for a bad row among the first ones, or a tokenizer that does not load or fit the format."""
        from data_common.models.checks import only_on_hub
        from data_common.rows.jsonl import first_rows
        from data_common.rows.texts import text_types
        from model_train.architectures import is_architecture

        first_rows(source, text_types(self.text_field), on_bad_row)
        if is_architecture(tokenizer):
            raise UserError(f"{tokenizer} is an architecture file: the folder or hub id of a tokenizer is wanted")
        if not only_on_hub(tokenizer, "tokenizer_config.json"):
            self._format(self._tokenizer(source, tokenizer))

    def prepare(self, source: Source, tokenizer: str, on_bad_row: BadRowPolicy, work) -> None:
        """Encode the rows, part by part, into the step of the work folder.

        Raises: UserError for a bad row, or where no row has text.
        """
        from data_common.models.token_cache import tokenizer_identity
        from model_train.tokenize.documents import PART_BYTES, DocumentParts

        loaded = self._tokenizer(source, tokenizer)
        self.written_as = self._format(loaded)
        self.parts = DocumentParts(source, self.text_field, on_bad_row, loaded)
        reading = {"text_field": self.text_field, "on_bad_row": on_bad_row, "part_bytes": PART_BYTES}
        reading |= {"tokenizer": tokenizer_identity(loaded), "special_tokens_in_text": self._special(source)}
        self.counts = work.step(STEP, reading, ["data"], self.parts.encode_into)
        self.parts.found_in(work.path / STEP)
        if not self.counts.get("rows"):
            raise UserError(f"{source.path} holds no rows")
        if not self.counts["documents"]:
            raise UserError(f"{source.path}: no row has any text")

    def write(self, source: Source, folder: Path) -> dict[str, Any]:
        """The files, read back and compared document by document. -> facts for the manifest.

        Raises: UserError for a document that is not read back as it was written, or not in its order.
        """
        self.written_as.write(folder, self.parts)
        lengths = (length for part in self.parts for length in part.lengths.tolist())
        for offset in differing(self.parts, self.written_as.read(folder, lengths)):
            place = "after the last row" if offset is None else source.place(offset)
            raise UserError(f"MODEL_OUT is not read back as it was written ({place}): is the disk at fault?")
        facts = self.counts | {"token_type": self.written_as.token_type.name, "vocabulary": self.written_as.vocabulary}
        if message := warning(facts.pop(FACT), facts["rows"], self._special(source)):
            print(f"warning: {message}")
        return facts | {"files": len(list(folder.iterdir())), "read_back_documents": facts["documents"]}

    def _special(self, source: Source) -> Special:
        return as_meant(self.special, [shard.name for shard in source.shards])

    def _tokenizer(self, source: Source, path: str):
        from data_common.models.loading import load_tokenizer

        return load_tokenizer(path, self.trust_remote_code, self._special(source))

    def _format(self, tokenizer):
        from data_common.models.tokens import id_count
        from model_train.tokenize.formats import FORMATS

        return FORMATS[self.format](id_count(tokenizer), self.shard_tokens)


def differing(parts: Iterable, found: Iterator[np.ndarray]) -> Iterator[int | None]:
    """Offsets of the rows that `found` does not hold as `parts` do, or not behind the row before; None for a document
    that is in `found` only.

    parts: of `documents.Documents`, in the order of the rows.
    """
    before = -1
    for part in parts:
        for offset, tokens in zip(part.offsets.tolist(), part.each(), strict=True):
            same = np.array_equal(tokens, next(found, None))
            if offset <= before or not same:
                yield offset
            before = offset
    if next(found, None) is not None:
        yield None
