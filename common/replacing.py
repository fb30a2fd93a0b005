"""What an output may replace: an earlier output of these stages or IN itself, and nothing else without a word."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.manifest import manifest_path, read_manifest

MADE_BY = ("data_scoring", "data_selection", "data_ordering")
CURE = "overwrite_out=true replaces it"


def check_replaceable(output: Path, source: str, inputs: Iterable[str], name: str = "OUT") -> None:
    """Raises UserError where `output` would replace what no stage made, or what IN was made from.

    source: IN, which may be replaced. inputs: the files of IN, and all else that is read.
    """
    if not _holds_something(output) or _same(output, source):
        return
    inputs = list(inputs)
    if any(_same(output, path) for path in inputs):
        raise UserError(f"{name}={output} is an input of this call: {CURE}")
    if maker := next((path for path, origin in _origins(inputs) if _same(output, origin)), None):
        raise UserError(f"{name}={output} is what {maker} was made from (IN and {name} swapped?): {CURE}")
    made = read_manifest(output)
    if made is None or made.get("stage") not in MADE_BY:
        why = "there is no manifest of it" if made is None else f"it was made by {made.get('stage')}"
        if made is None and manifest_path(output).exists():
            why = "it was changed since it was made"
        raise UserError(f"{name}={output} exists, and {why}: choose another, or {CURE}")


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        return any(path.iterdir())
    return path.exists() and path.stat().st_size > 0


def _same(one: str | Path, other: str | Path) -> bool:
    with contextlib.suppress(OSError):
        return Path(one).resolve() == Path(other).resolve()
    return False


def _origins(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(what was made, what it was made from), back along the manifests."""
    waiting, seen = list(paths), set()
    while waiting:
        path = waiting.pop()
        # a shard of a folder that was written as a whole is known by the manifest of the folder
        for made in (path, str(Path(path).parent)):
            if made not in seen:
                seen.add(made)
                for origin in _inputs(made):
                    yield made, origin
                    waiting.append(origin)


def _inputs(made: str) -> list[str]:
    """Paths of what a manifest says that something was made from; its content is not compared."""
    try:
        inputs: Mapping[str, Any] = json.loads(manifest_path(made).read_text(encoding="utf-8"))["inputs"]
        prints = [one for entry in inputs.values() for one in (entry if isinstance(entry, list) else [entry])]
        return [one["path"] for one in prints if "path" in one]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
