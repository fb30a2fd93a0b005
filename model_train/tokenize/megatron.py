"""The indexed data set of Megatron-LM: `corpus.bin`, the ids of all documents, and `corpus.idx`, where each begins.

https://github.com/NVIDIA/Megatron-LM/blob/main/megatron/core/datasets/indexed_dataset.py. Every document is one
sequence. The index is a magic, uint64 version, uint8 code of the ids' type, uint64 sequences, uint64 document
boundaries; then int32 tokens of each sequence, int64 its place in bytes, int64 the sequence with which each document
begins, and their number.
"""

import struct
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from data_common.models.tokens import memory_mapped
from model_train.tokenize.documents import Documents
from model_train.tokenize.token_format import TokenFormat

NAME = "corpus"
MAGIC, VERSION = b"MMIDIDX\0\0", 1
HEADER = struct.Struct("<9sQBQQ")
CODES = {np.dtype("<u2"): 8, np.dtype("<i4"): 4}
SMALL = 65500  # vocabularies below it are uint16, as Megatron-LM itself chooses


class Megatron(TokenFormat):
    """`--data-path FOLDER/corpus`."""

    @property
    def token_type(self) -> np.dtype:
        """uint16 or int32."""
        return np.dtype("<u2" if self.vocabulary < SMALL else "<i4")

    def write(self, folder: Path, parts: Iterable[Documents]) -> None:
        """Four bytes a document are held in memory."""
        lengths: list[np.ndarray] = []
        with open(folder / f"{NAME}.bin", "wb") as file:
            for part in parts:
                file.write(part.tokens.astype(self.token_type).data)
                lengths.append(part.lengths.astype("<i4"))
        count = sum(map(len, lengths))
        with open(folder / f"{NAME}.idx", "wb") as file:
            file.write(HEADER.pack(MAGIC, VERSION, CODES[self.token_type], count, count + 1))
            for some in lengths:
                file.write(some.data)
            place = 0
            for some in lengths:
                ends = place + np.cumsum(some, dtype=np.int64) * self.token_type.itemsize
                file.write((ends - some.astype(np.int64) * self.token_type.itemsize).astype("<i8").data)
                place = int(ends[-1]) if len(ends) else place
            first = 0
            for some in [*lengths, [None]]:  # one more: where the last document ends
                file.write(np.arange(first, first + len(some), dtype="<i8").data)
                first += len(some)

    def read(self, folder: Path, lengths: Iterable[int]) -> Iterator[np.ndarray]:
        """By the index alone."""
        index = memory_mapped(folder / f"{NAME}.idx", np.uint8)
        magic, version, code, sequences, boundaries = HEADER.unpack(index[: HEADER.size].tobytes())
        assert (magic, version) == (MAGIC, VERSION)
        kind = {code: kind for kind, code in CODES.items()}[code]
        places = HEADER.size + np.cumsum([0, 4 * sequences, 8 * sequences, 8 * boundaries])
        columns = [index[start:end] for start, end in pairwise(places)]
        sizes, starts, documents = (
            column.view(name) for column, name in zip(columns, ("<i4", "<i8", "<i8"), strict=True)
        )
        content = memory_mapped(folder / f"{NAME}.bin", np.uint8)
        for first, end in pairwise(documents):
            tokens = [content[starts[i] : starts[i] + sizes[i] * kind.itemsize].view(kind) for i in range(first, end)]
            yield np.concatenate(tokens)
        if documents[-1] < sequences:
            yield np.empty(0, kind)
