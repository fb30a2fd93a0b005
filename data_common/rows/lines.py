"""The lines of a source where no field of them is wanted: found, not read."""

from mmap import mmap

import numpy as np

from data_common.rows.columns import Table
from data_common.rows.jsonl import BYTE_ORDER_MARK, CARRIAGE_RETURN, Rows, Source
from data_common.rows.shards import Shard, mapped

BLOCK = 2**20  # bytes whose lines are looked at together: they are still in the cache of the processor
SPACE = 32  # a line that begins with a larger byte is not blank


def scan_lines(source: Source) -> Table:
    """Every line of `source` that is not blank, without columns: nothing is decoded, and nothing checked."""
    source.forget_counts()
    found = [_lines_of(source, shard) for shard in source.shards]
    return Table(Rows(*map(np.concatenate, zip(*found, strict=True))), {})


def _lines_of(source: Source, shard: Shard) -> tuple[np.ndarray, np.ndarray]:
    """First bytes and ends of the lines of a shard, in bytes of the source, line ends left out; counts blank ones."""
    view = mapped(shard)
    text, first = np.frombuffer(view, np.uint8), len(BYTE_ORDER_MARK) if view[:3] == BYTE_ORDER_MARK else 0
    starts, ends = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    while first < len(text):
        end = _line_ends(view.obj, first, min(first + BLOCK, len(text)))
        start = np.append(first, end[:-1] + 1)
        first = int(end[-1]) + 1
        end -= (end > start) & (text[end - 1] == CARRIAGE_RETURN)
        filled = end > start
        odd = np.flatnonzero(filled)[text[start[filled]] <= SPACE]
        filled[odd] = [bool(bytes(view[i:j]).strip()) for i, j in zip(start[odd], end[odd], strict=True)]
        source.blank += len(filled) - int(filled.sum())
        starts.append(start[filled] + shard.base)
        ends.append(end[filled] + shard.base)
    return np.concatenate(starts), np.concatenate(ends)


def _line_ends(text: mmap, first: int, last: int) -> np.ndarray:
    """Of the lines that begin in [first, last), `first` among them; the last line of a text may lack its newline."""
    ends, end = [], first - 1
    while end + 1 < last:
        end = text.find(b"\n", end + 1)
        if end < 0:
            end = len(text)
        ends.append(end)
    return np.array(ends)
