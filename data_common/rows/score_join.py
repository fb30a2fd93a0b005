"""Scores in files beside the text in place of fields in it: found by row number or by id, never by chance."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_common.files.atomic import draft_of
from data_common.files.fingerprint import fingerprint
from data_common.files.manifest import Run, declared_directions
from data_common.messages.errors import UserError
from data_common.rows.columns import Column, Table
from data_common.rows.jsonl import BadRowPolicy, Source, open_source
from data_common.rows.score_binding import ARRAY, is_of, manifests_of, score_paths
from data_common.rows.score_files import ArrayFiles, LineFiles, ScoreFile, Scores
from data_common.rows.shards import KEPT


@dataclass(frozen=True)
class ScoreKeys:
    """The keys of selection and ordering that name score files."""

    scores: str
    id_field: str
    trust_row_numbers: bool


@dataclass
class ScoresBeside:
    """Opened score files of a corpus.

    each: whether there is one for each shard. by_id: else by row number. checked: whether the rows are known to be
    what the scores were made of, so that they need not be read.
    """

    path: str
    paths: list[str]
    file: ScoreFile
    directions: dict[str, str]
    id_column: Column
    each: bool
    by_id: bool
    checked: bool

    def of_text(self, directions: Mapping[str, str], declared: Mapping[str, str]) -> dict[str, str]:
        """Of the directions those of OUT, in which a field of the files' names is still what IN has declared it."""
        own = set(self.file.names())
        return {field: way for field, way in directions.items() if field not in own} | {
            field: way for field, way in declared.items() if field in own
        }

    def output(self, target: str) -> str:
        """Where the scores of the rows of `target` are written."""
        return f"{target.rstrip('/')}{KEPT}{self.file.suffix(target)}"

    def run_of(self, run: Run, directions: Mapping[str, str]) -> Run:
        """`run`, the record of the scores that are written, with their directions alone."""
        known = {**self.directions, **directions}
        run.identity = run.identity | {"directions": {name: known[name] for name in self.file.names() if name in known}}
        return run

    def write(self, run: Run, entries: np.ndarray, draft: Path, output: Path) -> dict[str, Any]:
        """Write the entries of these numbers as the scores of OUT; the fingerprint of OUT, which waits as `draft`."""
        own = fingerprint(draft)
        corpus = [own | {"path": str(output)}]
        if draft.is_dir():
            corpus = [fingerprint(part) | {"path": str(output / part.name)} for part in sorted(draft.iterdir())]
        with draft_of(run.output) as scores:
            self.file.write(scores, run.output.name, entries)
            run.finish(scores, rows_out=len(entries), corpus=corpus, fields=self.file.names())
        return own

    def split(self, columns: Sequence[Column]) -> tuple[list[Column], list[Column]]:
        """Columns that the score files hold; those that are to be read of the text, the id among them if need be.

        Raises: UserError where the files hold none of the columns.
        """
        held = [column for column in columns if self.file.holds(column)]
        rest = [column for column in columns if column not in held]
        if not held:
            wanted = ", ".join(name for column in columns if column.kind == "number" for name in column.fields)
            raise UserError(
                f"scores={self.path} holds {', '.join(self.file.names())}, and what is read is {wanted or 'no score'}"
            )
        return held, [*rest, self.id_column] if self.by_id else rest

    def check(self, held: Sequence[Column], on_bad_row: BadRowPolicy) -> None:
        """Raises UserError for what is soon seen to be wrong with the files."""
        self.file.check([*held, self.id_column] if self.by_id else held, on_bad_row)

    def join(
        self, source: Source, table: Table, held: Sequence[Column], on_bad_row: BadRowPolicy
    ) -> tuple[Table, np.ndarray, dict[str, Any]]:
        """The rows that have a score, with their columns; which entry of the files each has; facts.

        table: all usable rows of the text. held: the columns of the files. Rows without a score are bad rows.
        Raises: UserError where rows cannot be joined, and at the first row without a score, unless these are dropped.
        """
        found = self.file.read([*held, self.id_column] if self.by_id else held, on_bad_row)
        entry = self._by_id(table, found) if self.by_id else self._by_number(source, table, found)
        bad = np.flatnonzero(entry < 0)
        if len(bad):
            self._leave_out(source, table, bad, on_bad_row)
            table, entry = table.take(entry >= 0), entry[entry >= 0]
        uses = np.bincount(entry, minlength=len(found.number))
        facts = {"joined_by": self.id_column.fields[0] if self.by_id else "row number", "rows": len(found.number)}
        facts |= {"of_no_row": int((uses == 0).sum()), "of_several_rows": int((uses > 1).sum())}
        columns = table.columns | {column: found.columns[column][entry] for column in held}
        return Table(table.rows, columns), entry, {"scores": facts}

    def _by_number(self, source: Source, table: Table, found: Scores) -> np.ndarray:
        """The entry of each row, (rows,); -1 where it has none."""
        rows, scores = source.shard_rows(table.rows), found.file_rows
        if not self.each:
            rows, scores = rows.sum(keepdims=True), scores.sum(keepdims=True)
        if (differ := np.flatnonzero(rows != scores)).size:
            one = int(differ[0])
            of, path = (source.shards[one].name, self.paths[one]) if self.each else (source.path, self.path)
            raise UserError(
                f"scores={path} has {scores[one]:,} rows and {of} {rows[one]:,} (blank lines are none): it is not of it"
            )
        entry_of = np.full(int(rows.sum()), -1)
        entry_of[found.number] = np.arange(len(found.number))
        return entry_of[source.row_numbers(table.rows)]

    def _by_id(self, table: Table, found: Scores) -> np.ndarray:
        """The entry of each row, (rows,); -1 where it has none. Raises: UserError for an id with two entries."""
        ids, wanted = found.columns[self.id_column], table.columns[self.id_column]
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        if (twice := np.flatnonzero(ids[1:] == ids[:-1])).size:
            first, second = sorted(order[twice[0] : twice[0] + 2])
            raise UserError(
                f"{self.file.place(second)}: its {self.id_column.fields[0]} is that of {self.file.place(first)} too "
                f"({len(twice):,} such rows)"
            )
        place = np.minimum(np.searchsorted(ids, wanted), max(0, len(ids) - 1))
        return np.where(ids[place] == wanted, order[place], -1) if len(ids) else np.full(len(wanted), -1)

    def _leave_out(self, source: Source, table: Table, bad: np.ndarray, on_bad_row: BadRowPolicy) -> None:
        """Count the rows without a score. Raises: UserError where that is an error, or there are no others."""
        reason = f"no score in {self.path}" + (f" by {self.id_column.fields[0]}" if self.by_id else "")
        if len(bad) == len(table):
            raise UserError(f"{source.path}: no row has a score in {self.path}")
        if on_bad_row == "error":
            place = source.place(int(table.rows.start[bad[0]]))
            raise UserError(f"{place}: {reason} ({len(bad):,} such rows; on_bad_row=drop leaves them out)")
        source.dropped[reason] += len(bad)


@contextlib.contextmanager
def open_scores(
    keys: ScoreKeys, corpus: Source, score_field: str | None, on_bad_row: BadRowPolicy, quick: bool
) -> Iterator[ScoresBeside]:
    """Open the score files of a corpus. score_field: what an .npy without a manifest holds. quick: for a look.

    Raises: UserError where they cannot be read, or not be joined.
    """
    shards = [shard.name for shard in corpus.shards]
    paths, each = score_paths(keys.scores, shards)
    manifests = manifests_of(paths, quick)
    known = None if keys.trust_row_numbers else is_of(manifests, shards, each, quick)
    directions = declared_directions(keys.scores, paths, quick)
    with contextlib.ExitStack() as stack:
        file: ScoreFile
        if paths[0].endswith(ARRAY):
            file, has_id = ArrayFiles(paths, _array_field(keys.scores, manifests, score_field)), False
        else:
            lines = stack.enter_context(open_source(keys.scores, not quick, "scores", paths))
            file = LineFiles(lines, on_bad_row)
            has_id = file.has(keys.id_field)
        by_id = has_id and not known and not keys.trust_row_numbers
        if not (by_id or known or keys.trust_row_numbers):
            raise UserError(_refusal(keys, corpus.path, known))
        id_column = Column("id", (keys.id_field,))
        yield ScoresBeside(keys.scores, paths, file, directions, id_column, each, by_id, bool(known))


def _array_field(path: str, manifests: Sequence[Mapping[str, Any] | None], score_field: str | None) -> str:
    """The one field of arrays: as their manifests say, else score_field. Raises: UserError where nothing tells."""
    fields = {field for manifest in manifests for field in (manifest or {}).get("fields", [])}
    fields = fields or {score_field}
    if len(fields) > 1 or fields == {None}:
        raise UserError(f"scores={path}: an array holds one score, and several are read: JSON lines hold several")
    return fields.pop()


def _refusal(keys: ScoreKeys, corpus: str, known: bool | None) -> str:
    fault = f": no manifest says that it is of {corpus}"
    if known is False:
        fault = f" is of another corpus than {corpus}, or of another order of it"
    return (
        f"scores={keys.scores}{fault}: JSON lines are joined by {keys.id_field}, where rows of both have it, and "
        f"trust_row_numbers=true takes the scores row by row"
    )
