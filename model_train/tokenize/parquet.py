"""Parquet with one list of ids a row, in the column `input_ids`: https://huggingface.co/docs/datasets/loading#parquet."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from model_train.tokenize.documents import Documents, in_shards
from model_train.tokenize.token_format import TokenFormat

COLUMN = "input_ids"
SCHEMA = pyarrow.schema([(COLUMN, pyarrow.list_(pyarrow.int32()))])


class Parquet(TokenFormat):
    """`train-*.parquet`, whose names sort as the rows do."""

    shard_tokens = 10**8

    @property
    def token_type(self) -> np.dtype:
        """int32, which every reader knows; the encoding of the file makes it smaller."""
        return np.dtype("<i4")

    def write(self, folder: Path, parts: Iterable[Documents]) -> None:
        """Documents are whole within a file."""
        for shard, pieces in groupby(in_shards(parts, self.tokens_of_a_shard), itemgetter(0)):
            with pyarrow.parquet.ParquetWriter(folder / f"train-{shard:06}.parquet", SCHEMA) as writer:
                for _, piece in pieces:
                    ends = np.append(0, np.cumsum(piece.lengths)).astype(np.int32)
                    lists = pyarrow.ListArray.from_arrays(ends, piece.tokens.astype(self.token_type))
                    writer.write_table(pyarrow.Table.from_arrays([lists], schema=SCHEMA))

    def read(self, folder: Path, lengths: Iterable[int]) -> Iterator[np.ndarray]:
        """Row by row."""
        for path in sorted(folder.iterdir()):
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(columns=[COLUMN]):
                    lists = batch.column(0)
                    ends, values = lists.offsets.to_numpy(), lists.values.to_numpy()
                    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
                        yield values[start:end]
