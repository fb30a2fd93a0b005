"""Which score files there are, and whether their row numbers are those of a corpus: what their manifests say."""

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_common.files.fingerprint import fingerprint, same_content_of_all
from data_common.files.manifest import read_manifest
from data_common.messages.errors import UserError
from data_common.rows.shards import KEPT, SUFFIXES, stem

ARRAY = ".npy"


def score_paths(path: str, shards: Sequence[str]) -> tuple[list[str], bool]:
    """The score files at `path`, a file, a folder or a glob, and whether there is one for each shard, in their order.

    Else all of them together are of all shards. Raises: UserError where they are none, of two kinds, or .npy files
    that are not named as the shards.
    """
    found = _found(path)
    arrays = [file for file in found if file.endswith(ARRAY)]
    if not found or (arrays and len(arrays) < len(found)) or not all(f.endswith((ARRAY, *SUFFIXES)) for f in found):
        kinds = f"{ARRAY} or {', '.join(SUFFIXES)}"
        fault = "no such file" if not found else "files of one kind are wanted"
        raise UserError(f"scores={path}: {fault} ({kinds}; a folder or a glob has files of one kind)")
    if len(found) == 1:
        return found, False
    named = {_stem(file): file for file in found}
    wanted = [stem(shard) for shard in shards]
    if len(named) == len(found) == len(shards) and named.keys() == set(wanted):
        return [named[name] for name in wanted], True
    if arrays:
        missing = next((name for name in wanted if name not in named), wanted[0])
        raise UserError(
            f"scores={path}: {len(found):,} files for {len(shards):,} shards, which must be named alike: "
            f"{missing}{ARRAY} for {missing}.jsonl"
        )
    return found, False


def is_of(manifests: Sequence[Mapping[str, Any] | None], shards: Sequence[str], each: bool, quick: bool) -> bool | None:
    """Whether the score files were made of this very corpus; None where no manifest tells.

    each: one manifest for each shard, else one of all. quick: by size alone.
    """
    if not all(manifest and manifest.get("corpus") for manifest in manifests):
        return None
    prints = [fingerprint(shard, quick=quick) for shard in shards]
    corpora = [[one] for one in prints] if each else [prints]
    recorded = [manifest["corpus"] for manifest in manifests]
    return len(recorded) == len(corpora) and all(map(same_content_of_all, recorded, corpora))


def manifests_of(paths: Sequence[str], quick: bool) -> list[dict[str, Any] | None]:
    """Of each score file; None where there is none, or it is not of what lies there."""
    return [read_manifest(path, quick) for path in paths]


def _found(path: str) -> list[str]:
    place = Path(path)
    if place.is_dir():
        names = sorted(file.name for file in place.iterdir() if not file.name.startswith("."))
        return [str(place / name) for name in names if name.endswith((ARRAY, *SUFFIXES))]
    if place.exists():
        return [path]
    return sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []


def _stem(path: str) -> str:
    """The name of the shard that a score file is named after: a.npy, a.jsonl, a.jsonl.scores.npy are of a.jsonl."""
    return stem(stem(path).removesuffix(ARRAY).removesuffix(KEPT))
