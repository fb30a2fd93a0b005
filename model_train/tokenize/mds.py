"""MDS, the shards of MosaicML Streaming: `index.json` and `shard.*.mds`, with the ids of a document in column `tokens`.

https://github.com/mosaicml/streaming/blob/main/streaming/base/format/mds/writer.py. A shard is uint32 samples; uint32
places of the samples and of their end, in bytes; its configuration as JSON; the samples. A sample is uint32 bytes of
its value, and the value. That of an array of int32 in one dimension is a byte (4 x dimensions, plus 0, 1 or 2 for a
length in uint8, uint16 or uint32), the length, the ids.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from data_common.messages.errors import UserError
from data_common.models.tokens import memory_mapped
from model_train.tokenize.documents import Documents, in_shards
from model_train.tokenize.token_format import TokenFormat

PLACE = np.dtype("<u4")  # of a sample in its shard
LENGTHS = [np.dtype(name) for name in ("<u1", "<u2", "<u4")]
CONFIGURATION: dict[str, Any] = {
    "version": 2,
    "format": "mds",
    "compression": None,
    "hashes": [],
    "size_limit": None,
    "column_names": ["tokens"],
    "column_encodings": ["ndarray:int32"],
    "column_sizes": [None],
}


class Mds(TokenFormat):
    """`StreamingDataset(local=FOLDER, shuffle=False, ...)`."""

    shard_tokens = 2**24  # 64 MiB, the size that the package's writer aims at

    @property
    def token_type(self) -> np.dtype:
        """int32, as LLM Foundry writes it."""
        return np.dtype("<i4")

    def write(self, folder: Path, parts: Iterable[Documents]) -> None:
        """A shard is in memory at a time. Raises: UserError for one of 4 GiB or more."""
        shards = []
        for shard, pieces in groupby(in_shards(parts, self.tokens_of_a_shard), itemgetter(0)):
            samples = [self._sample(tokens) for _, piece in pieces for tokens in piece.each()]
            name = f"shard.{shard:05}.mds"
            size = self._write_shard(folder / name, samples)
            file = {"basename": name, "bytes": size, "hashes": {}}
            shards.append(CONFIGURATION | {"raw_data": file, "samples": len(samples), "zip_data": None})
        text = json.dumps({"version": 2, "shards": shards}, sort_keys=True)
        (folder / "index.json").write_text(text, encoding="utf-8")

    def _sample(self, tokens: np.ndarray) -> bytes:
        ids = tokens.astype(self.token_type).tobytes()
        kind = int(np.searchsorted([2**8, 2**16], len(tokens), side="right"))
        value = bytes([1 << 2 | kind]) + np.array([len(tokens)], LENGTHS[kind]).tobytes() + ids
        return np.array([len(value)], PLACE).tobytes() + value

    def _write_shard(self, path: Path, samples: list[bytes]) -> int:
        """-> its bytes."""
        configuration = json.dumps(CONFIGURATION, sort_keys=True).encode()
        start = PLACE.itemsize * (len(samples) + 2) + len(configuration)
        places = start + np.append(0, np.cumsum([len(sample) for sample in samples]))
        if places[-1] >= 2**32:
            raise UserError(
                f"a shard of {places[-1]:,} bytes is more than MDS holds: shard_tokens={self.tokens_of_a_shard // 4}"
            )
        with open(path, "wb") as file:
            file.write(np.append(len(samples), places).astype(PLACE).tobytes())
            file.write(configuration)
            file.writelines(samples)
        return int(places[-1])

    def read(self, folder: Path, lengths: Iterable[int]) -> Iterator[np.ndarray]:
        """Sample by sample, of the shards that the index names."""
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        for shard in index["shards"]:
            content = memory_mapped(folder / shard["raw_data"]["basename"], np.uint8)
            assert len(content) == shard["raw_data"]["bytes"]
            places = content[PLACE.itemsize :][: PLACE.itemsize * (shard["samples"] + 1)].view(PLACE)
            for start, end in pairwise(places.tolist()):
                value = content[start + PLACE.itemsize : end]
                kind = LENGTHS[value[0] & 3]
                length = int(value[1 : 1 + kind.itemsize].view(kind)[0])
                ids = value[1 + kind.itemsize :].tobytes()
                yield np.frombuffer(ids, self.token_type, length)
