"""The two scores that are compared, brought together row by row: by the text, so that the files may be in any order."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from data_common.row_methods.groups import spelled
from data_common.rows.json_line import Label, Number, Text, document_text
from data_common.rows.jsonl import BadRowPolicy, Rows, Source, read_rows

MIXED = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no two occurrences of a text get one key


@dataclass(frozen=True)
class Side:
    """A score of each usable row of a file. All columns are (rows,).

    key: equal for rows of two files that are one row: the first rows of a text, the second ones, and so on.
    group: the name of the row's group; empty where none is read.
    """

    name: str
    source: Source
    rows: Rows
    key: np.ndarray
    score: np.ndarray
    group: np.ndarray

    def take(self, index: np.ndarray) -> "Side":
        """Only these rows, in this order."""
        columns = (column[index] for column in (self.key, self.score, self.group))
        return Side(self.name, self.source, self.rows.take(index), *columns)


def read_side(
    name: str,
    source: Source,
    score_field: str,
    text_fields: Sequence[str],
    group_field: str | None,
    on_bad_row: BadRowPolicy,
) -> Side:
    """Read a file once. Raises: UserError at the first bad row, unless they are dropped (and counted in `source`)."""
    types: dict[str, Any] = dict.fromkeys(text_fields, Text) | {score_field: Number}
    types |= {group_field: Label} if group_field else {}
    start, end, digest, score, group = array("q"), array("q"), array("Q"), array("d"), []
    for begin, stop, values in read_rows(source, types, on_bad_row, "reading"):
        start.append(begin)
        end.append(stop)
        digest.append(xxhash.xxh3_64_intdigest(document_text(values[: len(text_fields)]).encode()))
        score.append(values[len(text_fields)])
        group.append(spelled(values[-1]) if group_field else "")
    arrays = [np.frombuffer(column, column.typecode) for column in (start, end, digest, score)]
    return Side(name, source, Rows(*arrays[:2]), with_occurrence(arrays[2]), arrays[3], np.array(group, object))


def with_occurrence(digest: np.ndarray) -> np.ndarray:
    """Digests of texts, (n,) uint64, with the number of the row among those of its text mixed in: all different."""
    order = np.argsort(digest, kind="stable")
    ordered = digest[order]
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(digest) else np.arange(0)
    lengths = np.diff(begins, append=len(digest))
    occurrence = np.empty(len(digest), np.uint64)
    occurrence[order] = np.arange(len(digest)) - np.repeat(begins, lengths)
    return digest + occurrence * MIXED


def matched(one: Side, other: Side) -> tuple[Side, Side]:
    """The rows that both have, in the order of the first."""
    _, mine, others = np.intersect1d(one.key, other.key, assume_unique=True, return_indices=True)
    order = np.argsort(mine)
    return one.take(mine[order]), other.take(others[order])
