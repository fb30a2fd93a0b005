"""Documents as token ids: some of them in memory, all of a corpus in the files of its parts, cut into shards."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_common.calls.progress import Progress
from data_common.files.atomic import atomic_file
from data_common.models.special_tokens import FACT, Special, Spelled
from data_common.models.tokens import encode, token_type
from data_common.parallel import distributed
from data_common.parallel.parts import missing_parts
from data_common.parallel.processes import cores, threaded_map
from data_common.rows.json_line import document_text
from data_common.rows.jsonl import BadRowPolicy, Part, Source, read_part
from data_common.rows.texts import text_types

PART_BYTES = 2**24  # of the rows: what a killed run loses, what processes share, what is in memory at a time


class Documents(NamedTuple):
    """Some documents, one after the other."""

    tokens: np.ndarray  # (all,)
    lengths: np.ndarray  # (n,) tokens of each
    offsets: np.ndarray  # (n,) of its row in the source, in bytes

    def each(self) -> Iterator[np.ndarray]:
        """The tokens of one document after the other."""
        ends = np.cumsum(self.lengths)
        for start, end in zip((ends - self.lengths).tolist(), ends.tolist(), strict=True):
            yield self.tokens[start:end]

    def cut(self, count: int) -> tuple["Documents", "Documents"]:
        """The first `count` documents, and the others."""
        end = int(self.lengths[:count].sum())
        first = Documents(self.tokens[:end], self.lengths[:count], self.offsets[:count])
        return first, Documents(self.tokens[end:], self.lengths[count:], self.offsets[count:])


def in_shards(parts: Iterable[Documents], tokens: int) -> Iterator[tuple[int, Documents]]:
    """(number of the shard, documents), in order: whole documents of at most so many tokens, or one that is longer."""
    shard = filled = 0
    for part in parts:
        while len(part.lengths):
            fitting = int(np.searchsorted(np.cumsum(part.lengths), tokens - filled, side="right"))
            if not fitting and filled:
                shard, filled = shard + 1, 0
                continue
            taken, part = part.cut(max(1, fitting))
            filled += len(taken.tokens)
            yield shard, taken


class DocumentParts:
    """The documents of a source, in files of some megabytes of rows each; one that is there is not made again."""

    def __init__(self, source: Source, text_field: str | list[str], on_bad_row: BadRowPolicy, tokenizer):
        self.source, self.on_bad_row, self.tokenizer = source, on_bad_row, tokenizer
        self.fields = text_types(text_field)
        self.parts = source.parts(PART_BYTES)
        self.files: list[Path] = []

    def encode_into(self, folder: Path) -> dict[str, Any]:
        """Make the files that are missing; the processes of a run share them. -> what was counted in all of them.

        Raises: UserError at the first bad row of a part.
        """
        self.found_in(folder)
        missing = list(missing_parts(self.files, self.parts))
        with Progress(
            desc="tokenizing", total=sum(part.end - part.begin for _, part in missing), unit="B", unit_scale=True
        ) as bar:
            for file, part in missing:
                arrays = self._encoded(part)
                with atomic_file(file) as draft, open(draft, "wb") as opened:
                    np.savez(opened, **arrays)
                bar.update(part.end - part.begin)
        distributed.wait()
        counts: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        for file in self.files:
            with np.load(file) as arrays:
                found = json.loads(arrays["counts"].tobytes())
            dropped.update(found.pop("dropped_rows"))
            counts.update(found)
        return dict(counts) | {"dropped_rows": dict(dropped)}

    def found_in(self, folder: Path) -> None:
        """From now on the files in this folder are iterated over."""
        self.files = [folder / f"part-{number:06}.npz" for number in range(len(self.parts))]

    def __iter__(self) -> Iterator[Documents]:
        for file in self.files:
            with np.load(file) as arrays:
                yield Documents(*(arrays[name] for name in Documents._fields))

    def _encoded(self, part: Part) -> Mapping[str, np.ndarray]:
        """The arrays of `Documents`, and what was counted as JSON."""
        special: Special = "text" if self.tokenizer.split_special_tokens else "tokens"
        spelled = Spelled(self.tokenizer, special)
        self.source.blank, self.source.dropped = 0, Counter()
        kind, rows = token_type(self.tokenizer), 0
        tokens, lengths, offsets = [np.empty(0, kind)], [], []
        blocks = read_part(self.source, part, self.fields, self.on_bad_row)
        for starts, texts, encoded in threaded_map(self._encode, blocks, max(1, min(8, cores() // distributed.size()))):
            rows += len(texts)
            for text in texts:
                spelled.count(text)
            kept = [(start, ids) for start, text, ids in zip(starts, texts, encoded, strict=True) if text.strip()]
            offsets += [start for start, _ in kept]
            lengths += [len(ids) for _, ids in kept]
            tokens += [np.array(ids, kind) for _, ids in kept]
        counts = {
            "rows": rows,
            "documents": len(lengths),
            "tokens": sum(lengths),
            "rows_without_text": rows - len(lengths),
            FACT: spelled.found,
            "blank_lines": self.source.blank,
            "dropped_rows": dict(self.source.dropped),
        }
        return {
            "tokens": np.concatenate(tokens),
            "lengths": np.array(lengths, np.int64),
            "offsets": np.array(offsets, np.int64),
            "counts": np.frombuffer(json.dumps(counts).encode(), np.uint8),
        }

    def _encode(self, block: tuple[np.ndarray, np.ndarray, list]) -> tuple[Sequence[int], list[str], list[list[int]]]:
        """Of the rows of a block: offsets, texts, token ids."""
        starts, _, values = block
        texts = [document_text(value) for value in values]
        return starts.tolist(), texts, encode(texts, self.tokenizer)
