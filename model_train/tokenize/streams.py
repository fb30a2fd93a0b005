"""One stream of ids without marks between documents: `train.bin` of nanoGPT, `train_*.bin` of llm.c and modded-nanogpt.

https://github.com/karpathy/nanoGPT/blob/master/data/openwebtext/prepare.py: uint16, nothing else.
https://github.com/karpathy/llm.c/blob/master/dev/data/data_common.py: 256 int32 (magic, version, number of ids, zeros),
then the ids, uint16 or, with another magic and version, uint32.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from data_common.messages.errors import UserError
from data_common.models.tokens import memory_mapped
from model_train.tokenize.documents import Documents, in_shards
from model_train.tokenize.token_format import TokenFormat

UINT16 = 2**16  # ids
COUNT = 2**31 - 1  # ids of a file whose header counts them
HEADER = 256  # int32


class TokenStream(TokenFormat):
    """Files of ids that are read one after the other, by their names."""

    @abstractmethod
    def header(self, count: int) -> bytes:
        """What stands before so many ids."""

    @abstractmethod
    def name(self, shard: int) -> str:
        """Of a file."""

    def write(self, folder: Path, parts: Iterable[Documents]) -> None:
        """Documents are whole within a file."""
        cut = in_shards(parts, self.tokens_of_a_shard) if self.tokens_of_a_shard else ((0, part) for part in parts)
        for shard, pieces in groupby(cut, itemgetter(0)):
            count = 0
            with open(folder / self.name(shard), "wb") as file:
                file.write(self.header(count))
                for _, piece in pieces:
                    file.write(piece.tokens.astype(self.token_type).data)
                    count += len(piece.tokens)
                file.seek(0)
                file.write(self.header(count))

    def read(self, folder: Path, lengths: Iterable[int]) -> Iterator[np.ndarray]:
        """The next `length` ids, which are in one file; then what is left, file by file."""
        files = (self._ids(path) for path in sorted(folder.iterdir()))
        rest = next(files, np.empty(0, self.token_type))
        for length in lengths:
            rest = rest if len(rest) else next(files, rest)
            yield rest[:length]
            rest = rest[length:]
        yield from (ids for ids in (rest, *files) if len(ids))

    def _ids(self, path: Path) -> np.ndarray:
        content = memory_mapped(path, np.uint8)
        start = len(self.header(0))
        ids = content[start:].view(self.token_type)
        assert content[:start].tobytes() == self.header(len(ids)), f"{path.name} has another header"
        return ids


class NanoGPT(TokenStream):
    """`data/NAME/train.bin` of nanoGPT."""

    def __init__(self, vocabulary: int, shard_tokens: int | None):
        super().__init__(vocabulary, shard_tokens)
        if vocabulary > UINT16:
            raise UserError(
                f"format=nanogpt holds token ids up to {UINT16 - 1:,}, and the tokenizer has ids up to "
                f"{vocabulary - 1:,}: format=megatron, llm.c, mds and parquet hold them"
            )

    @property
    def token_type(self) -> np.dtype:
        """uint16."""
        return np.dtype("<u2")

    def header(self, count: int) -> bytes:
        """Nothing."""
        return b""

    def name(self, shard: int) -> str:
        """There is one."""
        return "train.bin"


class LlmC(TokenStream):
    """`train_*.bin` of llm.c and modded-nanogpt. Only llm.c's `train_llama3.py` reads uint32."""

    shard_tokens = 10**8

    @property
    def token_type(self) -> np.dtype:
        """uint16, or uint32 where there are more ids."""
        return np.dtype("<u2" if self.vocabulary <= UINT16 else "<u4")

    def header(self, count: int) -> bytes:
        """Raises: UserError for more ids than it can count."""
        if count > COUNT:
            raise UserError(f"a file of llm.c counts up to {COUNT:,} tokens, and a document has {count:,}")
        content = np.zeros(HEADER, "<i4")
        content[:3] = (20240520, 1, count) if self.token_type.itemsize == 2 else (20240801, 7, count)
        return content.tobytes()

    def name(self, shard: int) -> str:
        """Names sort as the shards do."""
        return f"train_{shard:06}.bin"
