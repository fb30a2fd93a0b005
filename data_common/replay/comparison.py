"""An output that was made again beside the one that its manifest describes."""

import gzip
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from data_common.files.contents import weights_of
from data_common.files.fingerprint import fingerprint, same_content
from data_common.messages.errors import UserError
from data_common.messages.visible import brief

CONVERTED = "read_back_documents"  # in the manifest of a folder of `model_train` that is no model


def compare(record: Mapping[str, Any], original: Path, again: Path, facts: Mapping[str, Any]) -> tuple[str, list[str]]:
    """(what is equal, differences): one of both is empty.

    original: where the output was put then; it need not be there any more. facts: the manifest of `again`.
    Raises: UserError where nothing is left to compare.
    """
    if record["stage"] == "model_train" and CONVERTED not in record:
        return _weights(record, original, again)
    if same_content(record["output"], fingerprint(again)):
        return f"{record['output']['bytes']:,} bytes, xxh3 {record['output']['xxh3']}", []
    if record["stage"] == "model_eval" and record.get("tasks") == facts.get("tasks"):
        return f"the results of {len(record['tasks'])} tasks (other fields of the file differ)", []
    if record["stage"] == "model_eval":
        return "", _results(record["tasks"], facts["tasks"])
    sizes = f"{record['output']['bytes']:,} bytes then, {fingerprint(again)['bytes']:,} now"
    if not original.exists() or not same_content(record["output"], fingerprint(original)):
        return "", [f"{sizes} ({original} is gone or was changed: its rows cannot be compared)"]
    return "", [sizes, *_files(original, again)]


def _weights(record: Mapping[str, Any], original: Path, again: Path) -> tuple[str, list[str]]:
    """Of a model; its logs hold times, and are never the same."""
    now, then = weights_of(again), record.get("weights")
    if then is None:  # of an older record
        if not original.is_dir() or not same_content(record["output"], fingerprint(original)):
            raise UserError(f"the record has no digests of the weights, and {original} is gone or was changed")
        then = weights_of(original)
    if then == now:
        return f"the weights: {', '.join(f'{name} xxh3 {digest}' for name, digest in now.items())}", []
    return "", [f"{name}: other weights" for name in then | now if then.get(name) != now.get(name)]


def _results(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    values = {task: [one.get(task, {}).get("value") for one in (then, now)] for task in {**then, **now}}
    return [f"{task}: was {old}, is {new}" for task, (old, new) in values.items() if then.get(task) != now.get(task)]


def _files(original: Path, again: Path) -> list[str]:
    """Which files of both folders differ, or the lines of both files."""
    if original.is_file() and again.is_file():
        return [_lines(original, again)]
    names = sorted({str(path.relative_to(one)) for one in (original, again) for path in one.rglob("*")})
    pairs = {name: (original / name, again / name) for name in names}
    missing = [f"{name} is in one of both only" for name, (a, b) in pairs.items() if a.exists() != b.exists()]
    both = {name: (a, b) for name, (a, b) in pairs.items() if a.is_file() and b.is_file()}
    others = [name for name, (a, b) in both.items() if fingerprint(a)["xxh3"] != fingerprint(b)["xxh3"]]
    return missing + [f"{name}: {_lines(*both[name])}" for name in others]


def _lines(original: Path, again: Path) -> str:
    """How many lines differ, the first one, and by how much the numbers in its field do."""
    count, first, largest = 0, 0, {}
    with _opened(original) as one, _opened(again) as other:
        for number, (a, b) in enumerate(itertools.zip_longest(one, other), 1):
            if a != b:
                count, first = count + 1, first or number
                for field, by in _numbers(a, b):
                    largest[field] = max(by, largest.get(field, 0))
    if not count:
        return "the same lines, compressed by another version"
    by = "".join(f"; {brief(field)} by up to {value:.3g}" for field, value in largest.items())
    return f"{count:,} lines differ, the first is line {first:,}{by}"


def _opened(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.open(path)
    if path.suffix == ".zst":
        import zstandard

        return zstandard.open(path, "rb")
    return open(path, "rb")


def _numbers(a: bytes | None, b: bytes | None) -> Iterator[tuple[str, float]]:
    """(field, difference) of the numbers that differ in two rows."""
    try:
        one, other = json.loads(a or "null"), json.loads(b or "null")
    except ValueError:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for field in one.keys() & other.keys():
            values = one[field], other[field]
            if values[0] != values[1] and all(type(value) in (int, float) for value in values):
                yield field, abs(values[0] - values[1])
