"""The samples of a text corpus on disk: their tokens, the row that each comes from and the characters it covers.

A folder with `tokens.bin`, the token ids of all samples one after the other (uint16 or uint32 by the size of the
vocabulary), and `index.bin`, five int64 a sample: first token, number of tokens, row, first character, end character.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from data_common.calls.progress import Progress
from data_common.messages.errors import UserError
from data_common.models.tokens import ENCODE_BATCH, TokenStore, batched, memory_mapped, special_tokens, token_type

COLUMNS = 5
LongRows = Literal["cut", "mean"]


class Samples(TokenStore):
    """Token store whose document i comes from `rows[i]` and covers the characters `spans[i]` of its text."""

    def __init__(self, tokens: np.ndarray, index: np.ndarray):
        """tokens: (all,). index: (n, 5), as in `index.bin`."""
        super().__init__(tokens, index[:, 0], index[:, 1])
        self.index, self.rows, self.spans = index, index[:, 2], index[:, 3:]

    def take(self, documents: np.ndarray) -> "Samples":
        """Only these samples, over the same tokens."""
        return Samples(self.tokens, self.index[documents])


def load_samples(folder: Path, tokenizer) -> Samples:
    """The samples that `write_samples` wrote with this tokenizer, mapped into memory."""
    index = memory_mapped(folder / "index.bin", np.int64).reshape(-1, COLUMNS)
    return Samples(memory_mapped(folder / "tokens.bin", token_type(tokenizer)), index)


def write_samples(
    folder: Path, texts: Iterable[str], tokenizer, max_length: int, long_rows: LongRows, total: int, name: str
) -> None:
    """Encode every text, special tokens around it, to samples of at most `max_length` tokens.

    long_rows: of a longer text, cut keeps the first sample; mean keeps all, one after the other.
    What an interrupted call left in the folder is kept. total: number of texts, for the progress bar.
    Raises: UserError where the disk is full.
    """
    kind = token_type(tokenizer)
    try:
        folder.mkdir(exist_ok=True)
        row, position = _keep_whole_rows(folder, np.dtype(kind).itemsize)
        progress = Progress(desc=name, total=total, initial=row, unit="text")
        with open(folder / "tokens.bin", "ab") as tokens, open(folder / "index.bin", "ab") as index, progress:
            for batch in batched(islice(texts, row, None), ENCODE_BATCH):
                for ids, spans in _encode(batch, tokenizer, max_length, long_rows):
                    tokens.write(np.asarray(ids, kind).tobytes())
                    entries = [(position + first, stop - first, row, *chars) for first, stop, *chars in spans]
                    index.write(np.array(entries, np.int64).tobytes())
                    position += len(ids)
                    row += 1
                tokens.flush()  # before the index, so that no entry is without its tokens
                progress.update(len(batch))
    except OSError as error:
        if error.filename is not None and Path(error.filename).parent != folder:
            raise  # from the source of the texts
        raise UserError(f"cannot write {folder}: {error.strerror}") from error


def copy_samples(source: Path, folder: Path) -> None:
    """The samples in a second folder: for a model that has the tokenizer of another one."""
    folder.mkdir(exist_ok=True)
    for name in ("tokens.bin", "index.bin"):
        shutil.copyfile(source / name, folder / name)


def _encode(
    texts: Sequence[str], tokenizer, max_length: int, long_rows: LongRows
) -> Iterator[tuple[list[int], list[tuple[int, int, int, int]]]]:
    """Token ids of each text, and its samples: (first token, end token, first character, end character)."""
    start, end = special_tokens(tokenizer)
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    for number, (text, ids) in enumerate(zip(texts, encoded["input_ids"], strict=True)):
        ids = start + ids + end
        cuts = [0, *range(max_length, len(ids), max_length), len(ids)]
        if long_rows == "cut":
            cuts = cuts[:2]
        inside = [min(max(cut - len(start), 0), len(ids) - len(start) - len(end)) for cut in cuts]
        characters = [_character(encoded, number, token, len(text)) for token in inside]
        yield ids[: cuts[-1]], list(zip(cuts, cuts[1:], characters, characters[1:], strict=False))


def _character(encoded, number: int, token: int, length: int) -> int:
    """Where a token begins in its text; the length of the text behind the last one, or where a tokenizer cannot say."""
    if token == 0 or not encoded.is_fast or token >= len(encoded["input_ids"][number]):
        return 0 if token == 0 else length
    return encoded.token_to_chars(number, token).start


def _keep_whole_rows(folder: Path, token_bytes: int) -> tuple[int, int]:
    """Cut both files behind the last row that is surely whole. -> (rows, tokens) that are there."""
    tokens, index = folder / "tokens.bin", folder / "index.bin"
    for file in (tokens, index):
        file.touch()
    size = COLUMNS * np.dtype(np.int64).itemsize
    os.truncate(index, index.stat().st_size // size * size)
    entries = memory_mapped(index, np.int64).reshape(-1, COLUMNS)
    kept = entries[(entries[:, 0] + entries[:, 1]) * token_bytes <= tokens.stat().st_size]
    kept = kept[kept[:, 2] < kept[-1, 2]] if len(kept) else kept
    rows, position = (int(kept[-1, 2]) + 1, int(kept[-1, 0] + kept[-1, 1])) if len(kept) else (0, 0)
    count = len(kept)
    del entries, kept  # the mapping, before the file is cut
    os.truncate(index, count * size)
    os.truncate(tokens, position * token_bytes)
    return rows, position
