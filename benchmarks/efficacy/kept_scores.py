"""Scores of the pool that took long, kept in the repository: another run on the same data takes them.

results/scores/NAME-IDENTITY.npy has the values, and NAME-IDENTITY.json what the manifest of the scored file tells,
with the digest of the file that must come out.

    python -m benchmarks.efficacy.kept_scores SCORED.jsonl NAME      keeps the scores of a finished file
"""

import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.efficacy.plan import FOLDER
from data_common.files.manifest import fingerprint, manifest_path
from data_common.rows.json_line import add_fields

TOLD = ("stage", "method", "directions", "method_versions", "output", "seconds", "versions", "git_commit")
KEPT = FOLDER / "results" / "scores"


def keep(scored: Path, name: str) -> None:
    """The field `name` of a scored file, by the identity beside it."""
    target = KEPT / f"{name}-{Path(f'{scored}.identity').read_text(encoding='utf-8')}.npy"
    target.parent.mkdir(exist_ok=True)
    with open(scored, encoding="utf-8", newline="\n") as lines:
        np.save(target, np.array([json.loads(line)[name] for line in lines]))
    manifest = json.loads(manifest_path(scored).read_text(encoding="utf-8"))
    del manifest["output"]["path"]
    told = {key: manifest[key] for key in TOLD}
    target.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def is_kept(name: str, identity: str) -> bool:
    return (KEPT / f"{name}-{identity}.npy").exists()


def restore(source: Path, output: Path, name: str, identity: str) -> bool:
    """Write `output` as the kept call did, from the file that it read; False where none is kept.

    Raises: RuntimeError where another file comes out.
    """
    values = KEPT / f"{name}-{identity}.npy"
    if not is_kept(name, identity):
        return False
    manifest = json.loads(values.with_suffix(".json").read_text(encoding="utf-8"))
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(source, "rb") as lines, open(output, "wb") as out:
        for line, value in zip(lines, np.load(values).tolist(), strict=True):
            out.write(add_fields(line.rstrip(b"\n"), {name: value}) + b"\n")
    if fingerprint(output)["xxh3"] != manifest["output"]["xxh3"]:
        raise RuntimeError(f"{values} gives another file here: remove it, so that the scores are computed again")
    manifest["output"]["path"] = str(output)
    manifest_path(output).write_text(json.dumps(manifest), encoding="utf-8")
    return True


if __name__ == "__main__":
    keep(Path(sys.argv[1]), sys.argv[2])
