"""Scanned columns on disk: a sweep over configurations of one file decodes it once.

An entry is a folder of arrays, used as mapped files. It is found by all that it depends on: content and time stamps
of the shards, the wanted columns, the policy for bad rows, and the code that reads rows.
"""

import contextlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import xxhash

from data_common.files.atomic import read_json
from data_common.files.cache import cache_folder, trim
from data_common.files.contents import stamp_of
from data_common.formats import opening
from data_common.rows import columns as columns_module
from data_common.rows import json_line, jsonl, shards
from data_common.rows.columns import Column, Table, scan, warn_of_rounded
from data_common.rows.jsonl import BadRowPolicy, Rows, Source

LEAST_SOURCE = 16 * 2**20  # bytes: a smaller source is scanned sooner than looked up
LIMIT = 8 * 2**30  # bytes of all entries together: beyond it the least recently used ones go


def cached_scan(
    source: Source,
    columns: Sequence[Column] | None,
    on_bad_row: BadRowPolicy,
    fingerprints: Sequence[Mapping[str, Any]],
) -> Table:
    """`scan`, or its result of an earlier run on the same content. fingerprints: of the shards.

    A cache that cannot be written is said in one line and does without. Raises: UserError as `scan` does.
    """
    of_whole_rows = any(column.kind == "turns" for column in columns or ())  # whose template may change
    if source.bytes < LEAST_SOURCE or of_whole_rows:
        return scan(source, columns, on_bad_row)
    wanted = None if columns is None else list(columns)
    key = reading_key(source, fingerprints, [wanted, on_bad_row], [columns_module])
    try:
        entry = cache_folder("columns") / key
        table = _load(entry, columns or (), source)
        warn_of_rounded(source.rounded)
    except (OSError, ValueError, KeyError, RuntimeError):
        table = None
    if table is None:
        table = scan(source, columns, on_bad_row)
        # A source that was written to in the meantime has no columns to remember.
        if all(stamp_of(shard.name) == shard.stamp for shard in source.shards):
            try:
                _store(cache_folder("columns") / key, table, source)
            except (OSError, RuntimeError) as error:
                print(f"note: the columns are not cached: {error}", file=sys.stderr)
    return table


def reading_key(source: Source, fingerprints: Sequence[Mapping], facts: Any, modules: Sequence[ModuleType]) -> str:
    """The name of what was read from a source: follows from the shards, from `facts` and from code.

    fingerprints: of the shards. modules: that read, beside those that read lines.
    """
    content = [{name: value for name, value in one.items() if name != "path"} for one in fingerprints]
    stamps = [shard.stamp for shard in source.shards]
    digest = xxhash.xxh3_128(json.dumps([content, stamps, facts], sort_keys=True).encode())
    for module in (opening, shards, jsonl, json_line, *modules):
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()


def _arrays(table: Table) -> list[np.ndarray]:
    return [table.rows.start, table.rows.end, *table.columns.values()]


def _digest(arrays: Sequence[np.ndarray]) -> str:
    digest = xxhash.xxh3_128()
    for values in arrays:
        digest.update(values)
    return digest.hexdigest()


def _load(entry: Path, columns: Sequence[Column], source: Source) -> Table:
    """Raises: OSError, ValueError or KeyError where the entry is not there or not whole."""
    facts = read_json(entry / "facts.json")
    arrays = [np.load(entry / f"{number}.npy", mmap_mode="r") for number in range(2 + len(columns))]
    if _digest(arrays) != facts["digest"]:
        raise ValueError("damaged")
    os.utime(entry)  # used last
    source.blank, source.dropped, source.rounded = facts["blank"], Counter(facts["dropped"]), Counter(facts["rounded"])
    source.dropped_at = facts["dropped_at"]
    start, end, *values = arrays
    return Table(Rows(start, end), dict(zip(columns, values, strict=True)))


def _store(entry: Path, table: Table, source: Source) -> None:
    """Written beside its place and renamed, so that several runs may store the same entry at the same time."""
    entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = entry.with_name(f".{entry.name}.{os.getpid()}")
    try:
        work.mkdir()
        arrays = _arrays(table)
        for number, values in enumerate(arrays):
            np.save(work / f"{number}.npy", values)
        counts = {"blank": source.blank, "dropped": source.dropped, "rounded": source.rounded}
        counts["dropped_at"] = source.dropped_at
        facts = {"digest": _digest(arrays)} | counts
        (work / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        shutil.rmtree(entry, ignore_errors=True)  # what is there could not be loaded
        with contextlib.suppress(OSError):  # another run was first
            work.rename(entry)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    trim(entry.parent, LIMIT)
