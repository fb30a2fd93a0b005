"""Fingerprints: what files and folders hold, as records know it, wherever they lie."""

import contextlib
import glob
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from data_common.files.atomic import WORK, manifest_path, partial_path, pending_path
from data_common.files.contents import LARGE, Named, digest_of, sampled_digest, stamp_of
from data_common.messages.visible import visible

RESULT = re.compile(r"(.+)\.manifest\.json|(.+)\.work|\.(.+)\.partial|\.(.+)\.manifest\.json\.pending")
OF_MODELS = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json", ".model", ".txt", ".jinja", ".py"}
WHOLE = "whole"  # in a fingerprint: files above 64 MiB are hashed whole too; older records have samples of them
SIZES = "sizes"  # in a quick fingerprint: without results in the folder of a model, and with them
OWN = "own"  # in a fingerprint: results in the folder of a model are left out; older records have them


def fingerprint(path: str | Path, quick: bool = False) -> dict[str, Any]:
    """Size in bytes and xxh3 hash of a file, of all files below a folder, or of those that match a glob.

    An id that is no path stands for itself. Contents are hashed whole; the digest of more than 64 MiB is remembered in
    the cache folder by the inodes, sizes and times of change of the files. quick: the size
    alone, nothing is read.
    """
    files = files_of(Path(path))
    if files is None:
        return {"id": str(path)}
    if quick:
        sizes = [sum(file.stat().st_size for _, file in files_of(Path(path), own)) for own in (True, False)]
        return {"path": str(path), "bytes": sizes[0], SIZES: sizes}
    size, digest = digest_of(files)
    marks = {WHOLE: _has_large(files), OWN: _is_model(Path(path)) and files != files_of(Path(path), own=False)}
    return {"path": str(path), "bytes": size, "xxh3": digest} | {name: True for name, found in marks.items() if found}


def fingerprint_of_written(path: Path, digest: str) -> dict[str, Any]:
    """`fingerprint` of a file, by the `file_digest` of what was written to it."""
    size = path.stat().st_size
    return {"path": str(path), "bytes": size, "xxh3": digest} | ({WHOLE: True} if size > LARGE else {})


def files_of(path: Path, own: bool = True) -> Named | None:
    """(name, path) of what a fingerprint is of; None for an id. own: without results in the folder of a model."""
    if path.exists():
        found = [path] if path.is_file() else list(path.rglob("*"))
        if own and _is_model(path):
            results = _results(found)
            found = [file for file in found if results.isdisjoint((file, *file.parents))]
        return [(str(file.relative_to(path)), file) for file in sorted(found) if file.is_file()]
    found = [Path(file) for file in sorted(glob.glob(str(path), recursive=True))]
    return [(file.name, file) for file in found if file.is_file()] or None


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file()


def _results(found: Iterable[Path]) -> set[Path]:
    """What stages have put among the files, or are putting there: their outputs, and what belongs to these."""
    paths = set()
    for path in found:
        if match := RESULT.fullmatch(path.name):
            output = path.with_name(match[match.lastindex])
            if (
                output.suffix in OF_MODELS and not output.is_dir()
            ):  # no result: nothing may hide what a model consists of
                continue
            beside = [Path(f"{output}{WORK}"), Path(f"{output}.png"), path.with_name(f".{output.name}.lock")]
            paths.update([output, manifest_path(output), pending_path(output), *beside])
    return paths | set(map(partial_path, paths))


def stamps(path: str) -> list[tuple[int, ...]]:
    """Of all files that a fingerprint is of."""
    with contextlib.suppress(OSError):
        return [stamp_of(file) for _, file in files_of(Path(path)) or ()]
    return []


def _has_large(files: Named) -> bool:
    return any(file.stat().st_size > LARGE for _, file in files)


def same_content(recorded: Mapping, current: Mapping) -> bool:
    """Whether a fingerprint in a record is of the content that `current` is of, wherever it lies.

    A record from before large files were hashed whole is compared by the samples that it has, one from before results
    were left out with those. Of a quick fingerprint the size is compared.
    """
    if "id" in recorded or "id" in current:
        return recorded.get("id") == current.get("id")
    if SIZES in current:
        return recorded.get("bytes") in current[SIZES]
    if recorded.get("bytes") == current["bytes"] and recorded.get("xxh3") == current["xxh3"]:
        return True
    if recorded.keys() & {WHOLE, OWN} or not (current.get(OWN) or recorded.get("bytes") == current["bytes"]):
        return False
    olds = [as_once(current, own) for own in (True, False)]
    found = any(recorded.get("bytes") == old["bytes"] and recorded.get("xxh3") == old["xxh3"] for old in olds)
    if found and current.get(WHOLE):
        _say_sampled(current["path"])
    return found


def as_once(current: Mapping[str, Any], own: bool = True) -> dict[str, Any]:
    """The fingerprint that older versions gave: large files by samples. own: without results, as `_files_of`."""
    own = own or not current.get(OWN)
    if own and not current.get(WHOLE):
        return {name: value for name, value in current.items() if name != OWN}
    size, digest = _sampled(current["path"], own)
    return {"path": current["path"], "bytes": size, "xxh3": digest}


@cache
def _sampled(path: str, own: bool) -> tuple[int, str]:
    files = files_of(Path(path), own)
    return sum(file.stat().st_size for _, file in files), sampled_digest(files)


@cache
def _say_sampled(path: str) -> None:
    """Once for each."""
    print(f"note: {visible(path)} is compared by 64 samples a file, as an older version recorded it")


def same_content_of_all(recorded: Any, current: Any) -> bool:
    """`same_content` for a fingerprint or a list of them."""
    one, other = (prints if isinstance(prints, list) else [prints] for prints in (recorded, current))
    return len(one) == len(other) and all(map(same_content, one, other))
