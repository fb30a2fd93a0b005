"""Rows of a stream to a JSONL file. A broken connection is waited for; a killed download goes on where it was."""

import contextlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data_common.calls.progress import Progress
from data_common.files.atomic import partial_path, write_text
from data_common.files.durable import open_own
from data_common.formats.encoding import json_line, lost
from data_common.formats.opening import PARQUET
from data_common.messages.errors import UserError
from data_common.rows.shards import compressed

SAVE_EVERY = 1000  # rows between two places to go on from
PATIENCE = (1, 2, 4, 8, 16, 32)  # seconds to wait after one, two, ... failures without a row between


class Rows(Protocol):
    """Rows as lines in a fixed order. place: what stands behind the line that was given out last, as JSON, or None."""

    place: Any

    def lines(self, done: int, place: Any) -> Iterator[bytes]:
        """Those after the first `done`, behind which `place` stands."""


@dataclass
class DatasetRows:
    """Those of an `IterableDataset` of the library `datasets`; its own notes of a place are not relied upon.

    name: of the set. of_lines: whether a row is {"line": JSON}.
    """

    name: str
    dataset: Any
    of_lines: bool = False
    place: None = None

    def lines(self, done: int, place: None) -> Iterator[bytes]:
        """Raises: UserError for a row that JSON cannot hold."""
        # closed now rather than when the interpreter ends, which threads of `datasets` may abort
        with contextlib.closing(iter(self.dataset.skip(done) if done else self.dataset)) as rows:
            for row in rows:
                yield row["line"] if self.of_lines else json_line(row, self.name)


def save(
    rows: Rows,
    path: str,
    identity: Mapping[str, Any],
    sample_size: int | None,
    is_connection_error: Callable[[Exception], bool],
) -> tuple[Path, dict[str, int]]:
    """Write the first `sample_size` lines (None: all) to a file beside `path`. -> (that file, facts: rows, ...).

    What an interrupted call has got lies there too, and a call for the same rows continues with it.
    identity: what the lines and their order depend on; `id` names the set.
    Raises: UserError for values that JSON cannot hold and where the disk cannot be written; whatever the stream does.
    """
    target = Path(path)
    unfinished = _Unfinished(target, {**identity, "sample_size": sample_size})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with unfinished, Progress(desc=identity["id"], total=sample_size, unit="row") as bar:
            failures = 0
            while True:
                before = unfinished.rows
                bar.update(before - bar.n)
                try:
                    with contextlib.closing(rows.lines(before, unfinished.place)) as lines:
                        for line in _wanted(lines, before, sample_size):
                            unfinished.write(line, rows.place)
                            bar.update()
                    break
                except Exception as error:
                    if not is_connection_error(error):  # what was read last may not have been written
                        raise
                    unfinished.remember()
                    failures = 1 if unfinished.rows > before else failures + 1
                    if failures > len(PATIENCE):
                        raise
                    Progress.write(f"note: the connection broke after {unfinished.rows:,} rows: trying again")
                    time.sleep(PATIENCE[failures - 1])
            draft, count = unfinished.finish(), unfinished.not_finite()
    except OSError as error:
        if is_connection_error(error):
            raise
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    if count:
        print(f"note: {count:,} numbers are NaN or infinite, which JSON lacks: they are null")
    return draft, {"rows": unfinished.rows} | ({"not_finite_numbers": count} if count else {})


def _wanted(lines: Iterator[bytes], done: int, sample_size: int | None) -> Iterator[bytes]:
    """Lines up to the sample size, blank ones left out; no row beyond it is asked for."""
    count = None if sample_size is None else sample_size - done
    return itertools.islice((line for line in lines if line), count)


class _Unfinished:
    """The lines so far in a hidden file beside the target, and a note beside that: how many, and where they end."""

    def __init__(self, target: Path, identity: Mapping[str, Any]):
        self.target, self.identity = target, json.loads(json.dumps(identity))
        self.lines = partial_path(target)
        self.note = self.lines.with_name(self.lines.name + ".json")
        self.rows, self.place, self.kept_lost = 0, None, 0

    def __enter__(self) -> None:
        size = 0
        self.file = os.fdopen(open_own(self.lines, os.O_RDWR | os.O_APPEND), "ab")
        with contextlib.suppress(OSError, ValueError, KeyError):
            note = json.loads(self.note.read_text(encoding="utf-8"))
            if note["identity"] == self.identity and self.lines.stat().st_size >= note["bytes"]:
                self.rows, self.place, size = note["rows"], note["place"], note["bytes"]
                self.kept_lost = note.get("not_finite_numbers", 0)
                print(f"going on after {self.rows:,} rows that are there already")
        self.file.truncate(size)
        self.lost_before = lost.numbers

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def not_finite(self) -> int:
        """NaN and infinite numbers in the lines so far."""
        return self.kept_lost + lost.numbers - self.lost_before

    def write(self, line: bytes, place: Any) -> None:
        """place: behind the line."""
        self.file.write(line + b"\n")
        self.rows, self.place = self.rows + 1, place
        if self.rows % SAVE_EVERY == 0:
            self.remember()

    def remember(self) -> None:
        """From here a later call goes on."""
        self.file.flush()
        os.fsync(self.file.fileno())  # before the note that speaks of it
        size = os.fstat(self.file.fileno()).st_size
        note = {"identity": self.identity, "rows": self.rows, "bytes": size, "place": self.place}
        note |= {"not_finite_numbers": self.not_finite()}
        write_text(self.note, json.dumps(note))

    def finish(self) -> Path:
        """The file with all lines, compressed, or a table, where the name of the target says so."""
        self.file.flush()
        if self.target.name.endswith(".jsonl"):
            return self.lines
        packed = self.lines.with_name(f"{self.lines.name}-packed")
        os.close(open_own(packed))
        if self.target.name.endswith(PARQUET):
            from data_common.formats.parquet_file import write_parquet  # slow to import

            write_parquet(self.lines, packed)
            return packed
        with open(self.lines, "rb") as lines, compressed(packed, self.target.name) as file:
            shutil.copyfileobj(lines, file, 2**20)
        return packed
