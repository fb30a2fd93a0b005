"""What an output may replace: an earlier output of these stages or IN itself, and nothing else without a word."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data_common.files.atomic import manifest_path, pending_path, read_json
from data_common.files.manifest import read_manifest
from data_common.messages.errors import UserError

MADE_BY = ("data_scoring", "data_selection", "data_ordering")
CURE = "overwrite_out=true replaces it"


def check_replaceable(
    output: Path, source: str, shards: Iterable[str], read: Iterable[Path], name: str = "OUT", quick: bool = False
) -> None:
    """Raises UserError where `output` would replace what no stage made, what is read, or what IN was made from.

    source: IN, which may be replaced. shards: its files. read: all files that the call reads. quick: as in
    `read_manifest`.
    """
    if not _holds_something(output) or _real(output) == _real(source):
        return
    if any(_lies_in(path, output) for path in read):
        raise UserError(f"{name}={output} is an input of this call: {CURE}")
    if maker := next((path for path, origin in origins(shards) if _lies_in(origin, output)), None):
        raise UserError(f"{name}={output} is what {maker} was made from (IN and {name} swapped?): {CURE}")
    made = read_manifest(output, quick)
    if made is None or made.get("stage") not in MADE_BY:
        why = "there is no manifest of it" if made is None else f"it was made by {made.get('stage')}"
        if made is None and manifest_path(output).exists():
            why = "it was changed since it was made"
        raise UserError(f"{name}={output} exists, and {why}: choose another, or {CURE}")


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        return any(path.iterdir())
    return path.exists() and path.stat().st_size > 0


def _real(path: str | Path) -> Path:
    with contextlib.suppress(OSError):  # a link to itself
        return Path(path).resolve()
    return Path(path)


def _lies_in(path: str | Path, output: Path) -> bool:
    """Whether `path` is the file or folder `output`, or a shard in it."""
    real = _real(path)
    return _real(output) in (real, *real.parents)


def origins(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(what was made, what it was made from), back along the manifests."""
    waiting, seen = list(paths), set()
    while waiting:
        path = waiting.pop()
        # a shard of a folder that was written as a whole is known by the manifest of the folder
        for made in (path, str(Path(path).parent)):
            if made not in seen:
                seen.add(made)
                for origin in _inputs(Path(os.path.abspath(made))):
                    yield made, origin
                    waiting.append(origin)


def _inputs(made: Path) -> Iterator[str]:
    """Paths of what a manifest says that something was made from; its content is not compared."""
    for path_of in (manifest_path, pending_path):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            content: Mapping[str, Any] = read_json(path_of(made))
            for entry in content["inputs"].values():
                for one in entry if isinstance(entry, list) else [entry]:
                    if "path" in one:
                        yield from places_of(one["path"], content["output"]["path"], made)


def places_of(recorded: str, output: str, made: Path) -> Iterator[str]:
    """Where an input may lie, recorded beside the path of its output, which is `made` now: the call may have run in
    another folder, and both may have been moved since.
    """
    mixed = os.path.isabs(recorded) != os.path.isabs(output)
    if os.path.isabs(recorded) or mixed:
        yield recorded
    if not mixed:
        yield os.path.normpath(made.parent / os.path.relpath(recorded, os.path.dirname(output) or "."))
