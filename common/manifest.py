"""Fingerprints and the completion record: `OUT.manifest.json`, written last, means that OUT is complete."""

import contextlib
import glob
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from common.errors import UserError
from common.files import partial_path, write_text

WHOLE = 64 * 2**20  # files up to this many bytes are hashed whole, larger ones in BLOCKS samples
BLOCK = 2**20
BLOCKS = 64
REPOSITORY = Path(__file__).resolve().parent.parent


def manifest_path(output: str | Path) -> Path:
    """Where the manifest of `output` (a file, or a folder such as a model) stands."""
    output = Path(output)
    return output.with_name(output.name + ".manifest.json")


def fingerprint(path: str | Path) -> dict[str, Any]:
    """Size in bytes and xxh3 hash of a file, of all files below a folder, or of those that match a glob.

    An id that is no path stands for itself.

    Files above 64 MiB are hashed at 64 evenly spread blocks of 1 MiB, first and last included, so that terabytes
    cost no more than 64 MiB.
    """
    path = Path(path)
    if path.exists():
        found = [path] if path.is_file() else path.rglob("*")
        named = [(str(file.relative_to(path)), file) for file in sorted(found) if file.is_file()]
    else:
        found = map(Path, sorted(glob.glob(str(path), recursive=True)))
        named = [(file.name, file) for file in found if file.is_file()]
        if not named:
            return {"id": str(path)}
    digest, size = xxhash.xxh3_128(), 0
    for name, file in named:
        size += file.stat().st_size
        digest.update(os.fsencode(name))
        _hash_file(file, digest)
    return {"path": str(path), "bytes": size, "xxh3": digest.hexdigest()}


def same_content(one: Mapping, other: Mapping) -> bool:
    """Whether two fingerprints are of the same content, wherever it lies."""
    keys = ("id",) if "id" in one else ("bytes", "xxh3")
    return all(key in one and one[key] == other.get(key) for key in keys)


def read_manifest(output: str | Path) -> dict[str, Any] | None:
    """The manifest of `output`, or None where there is none or it does not describe what lies there."""
    try:
        content = json.loads(manifest_path(output).read_text(encoding="utf-8"))
        described = same_content(content["output"], fingerprint(output))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if described else None


def declared_directions(path: str, shards: Sequence[str]) -> dict[str, str]:
    """Score field -> "higher" or "lower", from the manifest of an input, or from those of its shards.

    Raises: UserError where shards contradict one another.
    """
    own = read_manifest(path)
    directions: dict[str, str] = {}
    for manifest in [own] if own else map(read_manifest, shards):
        for field, direction in (manifest or {}).get("directions", {}).items():
            if directions.setdefault(field, direction) != direction:
                raise UserError(f"the shards of {path} disagree on whether a higher {field} is better")
    return directions


class Run:
    """One execution of a stage: knows whether it was done before, and records that it is done."""

    def __init__(
        self,
        stage: str,
        method: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, Any],
        output: str,
        directions: Mapping[str, str] | None = None,
    ):
        """inputs: name -> path or hub id (lists allowed) of all that the result depends on.

        directions: score field -> "higher" or "lower", which is better; carried onward from stage to stage.
        """
        self.output = Path(output)
        self.started = time.perf_counter()
        self.identity = {
            "stage": stage,
            "method": method,
            "config": json.loads(json.dumps(config)),
            "inputs": {
                name: [fingerprint(p) for p in path] if isinstance(path, list) else fingerprint(path)
                for name, path in inputs.items()
            },
            "directions": dict(directions or {}),
        }

    def contents(self) -> dict[str, Any]:
        """Name -> fingerprint of each input, wherever it lies."""
        return _without_paths(self.identity)["inputs"]

    def is_done(self) -> bool:
        """Whether OUT is the complete result of this very call; says so if it is."""
        before = read_manifest(self.output)
        if before is None or _without_paths(before) != _without_paths(self.identity):
            return False
        with contextlib.suppress(OSError):  # of a run of the same call that was killed at its last file
            partial_path(manifest_path(self.output)).unlink()
        print(f"{self.output} is up to date (same input, method and configuration); delete it to run again")
        return True

    def seconds(self) -> float:
        """Wall-clock seconds since the stage began."""
        return time.perf_counter() - self.started

    def finish(self, **facts: Any) -> None:
        """Write the manifest; `facts` (counts, quantiles, ...) are added as they are."""
        content = self.identity | {
            "output": fingerprint(self.output),
            "seed": self.identity["config"].get("seed"),
            "seconds": round(self.seconds(), 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": _versions(),
            "git_commit": _git_commit(),
            **facts,
        }
        write_text(manifest_path(self.output), json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _without_paths(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What decides whether two runs are the same: a moved input file is still the same input."""

    def content(item: Any) -> Any:
        if isinstance(item, list):
            return [content(part) for part in item]
        return {key: value for key, value in item.items() if key != "path"}

    inputs = {name: content(item) for name, item in manifest.get("inputs", {}).items()}
    return {"inputs": inputs} | {key: manifest.get(key) for key in ("stage", "method", "config", "directions")}


def _hash_file(path: Path, digest: xxhash.xxh3_128) -> None:
    size = path.stat().st_size
    with open(path, "rb") as file:
        if size <= WHOLE:
            while block := file.read(BLOCK):
                digest.update(block)
            return
        for number in range(BLOCKS):
            file.seek((size - BLOCK) * number // (BLOCKS - 1))
            digest.update(file.read(BLOCK))


def _versions() -> dict[str, str]:
    """Python and those libraries that this run has in fact imported."""
    names = ("numpy", "msgspec", "torch", "transformers", "lm_eval")
    loaded = {name: getattr(sys.modules[name], "__version__", "?") for name in names if name in sys.modules}
    return {"python": sys.version.split()[0]} | loaded


def _git_commit() -> str | None:
    if not (REPOSITORY / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
