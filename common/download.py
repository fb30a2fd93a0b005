"""Rows of a stream to a JSONL file. A broken connection is waited for; a killed download goes on where it was."""

import contextlib
import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from common.durable import open_own
from common.errors import UserError
from common.files import partial_path, write_text
from common.progress import Progress
from common.shards import compressed

SAVE_EVERY = 1000  # rows between two places to go on from
PATIENCE = (1, 2, 4, 8, 16, 32)  # seconds to wait after one, two, ... failures without a row between


class RowStream(Protocol):
    """What an `IterableDataset` of `datasets` offers: rows in a fixed order, and the place after the last one read."""

    def __iter__(self) -> Iterator[dict[str, Any]]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
    def skip(self, count: int) -> "RowStream": ...


@dataclass
class Stream:
    """Rows to be saved."""

    name: str
    rows: RowStream
    identity: Mapping[str, Any]  # what the rows and their order depend on
    raw: bool = False  # whether a row is {"text": a line of JSON}, to be kept as it is
    shuffled: bool = False  # then a place in the stream says too little: rows are skipped instead
    not_finite: int = 0  # numbers that JSON lacks, NaN and infinity, which are written as null

    def lines(self, done: int, place: dict[str, Any] | None) -> Iterator[bytes]:
        """The lines after the first `done`, where `place` stands."""
        rows = self.rows
        if self.shuffled:
            rows = rows.skip(done)
        elif place is not None:
            rows.load_state_dict(place)
        for row in rows:
            if self.raw:
                yield row["text"].rstrip("\r").encode()
            else:
                line = _json_line(row, self.name)
                self.not_finite += _not_finite(row) if b"null" in line else 0
                yield line


def save(
    stream: Stream, path: str, sample_size: int | None, is_connection_error: Callable[[Exception], bool]
) -> tuple[Path, int]:
    """Write the first `sample_size` lines (None: all) to a file beside `path`. -> (that file, count of rows).

    What an interrupted call has got lies there too, and a call for the same rows goes on from there.
    Raises: UserError for values that JSON cannot hold and where the disk cannot be written; whatever the stream does.
    """
    target = Path(path)
    unfinished = _Unfinished(target, {**stream.identity, "sample_size": sample_size})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with unfinished, Progress(desc=stream.name, total=sample_size, unit="row") as bar:
            failures, stream.not_finite = 0, unfinished.not_finite
            while True:
                before = unfinished.rows
                bar.update(before - bar.n)
                try:
                    for line in _wanted(stream.lines(before, unfinished.place), before, sample_size):
                        unfinished.write(line, stream)
                        bar.update()
                    break
                except Exception as error:
                    unfinished.remember(stream)
                    failures = 1 if unfinished.rows > before else failures + 1
                    if not is_connection_error(error) or failures > len(PATIENCE):
                        raise
                    Progress.write(f"note: the connection broke after {unfinished.rows:,} rows: trying again")
                    time.sleep(PATIENCE[failures - 1])
            draft = unfinished.finish()
        if stream.not_finite:
            print(f"note: {stream.not_finite:,} numbers are NaN or infinite, which JSON lacks: they are null")
    except OSError as error:
        if is_connection_error(error):
            raise
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return draft, unfinished.rows


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
        self.rows, self.place, self.not_finite = 0, None, 0

    def __enter__(self) -> None:
        size = 0
        self.file = os.fdopen(open_own(self.lines, os.O_RDWR | os.O_APPEND), "ab")
        with contextlib.suppress(OSError, ValueError, KeyError):
            note = json.loads(self.note.read_text(encoding="utf-8"))
            if note["identity"] == self.identity and self.lines.stat().st_size >= note["bytes"]:
                self.not_finite = note.get("not_finite", 0)
                self.rows, self.place, size = note["rows"], note["place"], note["bytes"]
                print(f"going on after {self.rows:,} rows that are there already")
        self.file.truncate(size)

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, line: bytes, stream: Stream) -> None:
        self.file.write(line + b"\n")
        self.rows += 1
        if self.rows % SAVE_EVERY == 0:
            self.remember(stream)

    def remember(self, stream: Stream) -> None:
        """From here a later call goes on."""
        self.file.flush()
        os.fsync(self.file.fileno())  # before the note that speaks of it
        self.place = None if stream.shuffled else stream.rows.state_dict()
        size = os.fstat(self.file.fileno()).st_size
        note = {"identity": self.identity, "rows": self.rows, "bytes": size, "place": self.place}
        note["not_finite"] = stream.not_finite
        write_text(self.note, json.dumps(note))

    def finish(self) -> Path:
        """The file with all lines, compressed where the name of the target says so."""
        self.file.flush()
        if self.target.name.endswith(".jsonl"):
            return self.lines
        packed = self.lines.with_name(f"{self.lines.name}-packed")
        os.close(open_own(packed))
        with open(self.lines, "rb") as lines, compressed(packed, self.target.name) as file:
            shutil.copyfileobj(lines, file, 2**20)
        return packed


def _not_finite(value: Any) -> int:
    """How many numbers in a value are NaN or infinite."""
    if isinstance(value, dict | list):
        return sum(map(_not_finite, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and not math.isfinite(value)


def _json_line(row: dict[str, Any], name: str) -> bytes:
    """Dates become ISO strings, decimals strings, bytes base64, NaN and infinity null."""
    try:
        return msgspec.json.encode(row)
    except TypeError as error:
        raise UserError(f"{name} holds what JSON cannot: {error}") from None
