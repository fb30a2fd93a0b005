"""A score file: the scores of a corpus beside it, a row for each of its rows, whose text is not written again."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from data_common.files.atomic import write_array
from data_common.messages.errors import UserError
from data_common.rows import jsonl
from data_common.rows.json_line import BadRow, Decoder, Id, add_fields
from data_common.rows.score_binding import ARRAY
from data_common.rows.shards import SUFFIXES, compressed
from data_scoring.columns import rows_of


def check_score_file(target: str, source: str, fields: Collection[str], id_field: str, rewrites: bool) -> None:
    """Raises UserError where `target` cannot be the score file of `source`.

    rewrites: whether the method scores other rows than those of the corpus.
    """
    if not target.endswith((ARRAY, *SUFFIXES)):
        raise UserError(f"score_file=true: OUT={target} must end in {ARRAY} or {', '.join(SUFFIXES)}")
    if Path(target).resolve() == Path(source).resolve():
        raise UserError(f"score_file=true: OUT={target} is IN, and its rows would be lost")
    if rewrites:
        raise UserError("score_file=true: the scores are of chunks, and not of the rows of IN (granularity=chunk)")
    if id_field in fields:
        raise UserError(f"id_field={id_field}: the method writes a field of that name")
    if target.endswith(ARRAY) and len(fields) > 1:
        raise UserError(f"OUT={target} holds one number a row, and {', '.join(fields)} are written: end it in .jsonl")


class ScoreFile:
    """Has a row for each row of the corpus, those without a score too (NaN, or null); blank lines are none."""

    def __init__(self, source: jsonl.Source, rows: jsonl.Rows, id_field: str):
        """rows: (n,), all that the last reading of the source has given."""
        self.source, self.rows, self.id_field = source, rows, id_field
        self.total, self.numbers = int(source.shard_rows(rows).sum()), source.row_numbers(rows)

    def write(self, draft: Path, name: str, columns: Mapping[str, np.ndarray], kept: np.ndarray) -> None:
        """Write the columns of the rows that are kept, (n,) bool; (kept,) each."""
        numbers = self.numbers[kept]
        if name.endswith(ARRAY):
            [values] = columns.values()
            with open(draft, "wb") as file:
                write_array(file, self._all(values, numbers))
            return
        scored, found = np.zeros(self.total, bool), rows_of(columns)
        scored[numbers] = True
        without = dict.fromkeys(columns)
        with compressed(draft, name) as out:
            for known, has_score in zip(self._ids(), scored, strict=True):
                out.write(add_fields(b"{}", known | (next(found) if has_score else without)) + b"\n")

    def _all(self, values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        if len(values) == self.total and values.dtype.kind != "O":
            return values
        spread = np.full(self.total, np.nan)
        spread[numbers] = values.astype(float)
        return spread

    def _ids(self) -> Iterator[dict[str, str | int]]:
        """The id of each row by its name; empty where a row has none."""
        decode, lines = Decoder({self.id_field: Id}), jsonl.raw_lines(self.source, self.rows)
        read = np.zeros(self.total, bool)
        read[self.numbers] = True
        for was_read in read:
            found = {}
            with contextlib.suppress(BadRow):
                found = {self.id_field: decode(next(lines), valid_utf8=True)} if was_read else {}
            yield found
