"""After a power cut nothing is vouched for that is not there: files reach the disk before they are renamed, folders
before a record speaks of what is in them. Proved by the system calls of a small call of every stage.
"""

import json
import os
import sys
from pathlib import Path

import pytest

from data_common.calls.stage import REPOSITORY
from tests.models import save_model
from tests.strace import ABSENT, Event, can_trace, trace

pytestmark = pytest.mark.skipif(not can_trace(), reason=ABSENT)
RECORDS = (".manifest.json", "step.json", "run.json", "files.json")


def faults(events: list[Event], folder: Path) -> list[str]:
    """What was renamed before it was on the disk, and what was vouched for before its place was."""
    files: set[Path] = set()  # with content that is not on the disk
    folders: set[Path] = set()  # with names that are not
    found = []
    for event in events:
        path, other = event.path, event.other
        if folder not in (path, *path.parents):
            continue
        if event.name in ("fsync", "unlink"):
            files.discard(path)
            folders.discard(path)
        elif event.name == "rename":
            below = {file for file in files if path in (file, *file.parents)}
            temporary = path.name.startswith(".tmp")  # of a library, within a draft
            if hidden(other) < hidden(path) and not temporary:
                found += [f"{file} was not on the disk when it became {other}" for file in sorted(below)]
                files, below = files - below, set()
            files = {other / file.relative_to(path) if file in below else file for file in files}
            if other.name.endswith(RECORDS):
                found += [f"the names in {other.parent} were not on the disk before {other}"] * (
                    other.parent in folders
                )
            if other.name in RECORDS:  # of all that lies beside it
                beside = sorted(file for file in files if other.parent in file.parents)
                found += [f"{file} was not on the disk when {other} was" for file in beside]
            folders.add(other.parent)
        elif path != folder:
            files.add(path)
    return found


def hidden(path: Path) -> int:
    return sum(part.startswith(".") for part in path.parts)


def test_the_rules_find_what_is_wrong():
    a, b, record = Path("/f/.a"), Path("/f/a"), Path("/f/a.manifest.json")
    right = [Event("write", a), Event("fsync", a), Event("rename", a, b), Event("fsync", Path("/f"))]
    assert faults([*right, Event("rename", Path("/f/.m"), record)], Path("/")) == []
    assert len(faults(right[:1] + right[2:], Path("/"))) == 1
    assert len(faults([*right[:3], Event("rename", Path("/f/.m"), record)], Path("/"))) == 1
    assert len(faults([Event("write", Path("/f/.d/x")), Event("rename", Path("/f/.d"), Path("/f/d"))], Path("/"))) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("power")
    rows = [{"text": f"row {n} " + "of some words " * (n % 5 + 1), "score": n % 7} for n in range(40)]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_model(folder / "model")
    return folder


LQS = ["annotator_model=MODEL", "target_data=IN", "steps=4", "interval=2", "batch_size=4", "max_length=32"]
LQS += ["proxy_size=30", "scorer_model=null", "scorer_epochs=1", "scorer_batch_size=8", "overwrite=true"]
KENLM = ["train_data=IN", "vocab_size=64", "order=2", "overwrite=true"]
LIKELIHOOD = ["model=MODEL", "max_length=64", "overwrite=true"]
TRAIN = ["max_length=32", "max_tokens=600", "batch_size=4", "save_steps=2", "gradient_accumulation_steps=1"]
CALLS = {
    "selection": ["data_selection.entry", "IN", "OUT.jsonl", "top-r", "r=0.5", "direction=higher", "rejects=NO.jsonl"],
    "ordering": ["data_ordering.entry", "IN", "OUT.jsonl.zst", "sorting", "plot=true"],
    "ordering in shards": ["data_ordering.entry", "IN", "OUT", "sorting", "rows_per_shard=9"],
    "kenlm": [
        "data_scoring.entry",
        "IN",
        "OUT.jsonl",
        "kenlm",
        "train_data=IN",
        "vocab_size=300",
        "order=2",
        "overwrite=true",
    ],
    "perplexity": [
        "data_scoring.entry",
        "IN",
        "OUT.jsonl",
        "perplexity",
        "model=MODEL",
        "max_length=64",
        "overwrite=true",
    ],
    "lqs": ["data_scoring.entry", "IN", "OUT.jsonl", "lqs", *LQS],
    "training": ["model_train.entry", "IN", "MODEL", "OUT", "pretrain", *TRAIN],
    "tokens": ["model_train.entry", "IN", "MODEL", "OUT", "tokenize"],
    "evaluation": ["model_eval.entry", "MODEL", "OUT.yaml", "perplexity", "data=IN", "max_length=64"],
    "built-in data": ["utils", "--content", "dataset", "--id", "python-stdlib", "--save-dir", "OUT"],
    "built-in model": ["utils", "--content", "model", "--id", "tiny", "--data", "IN", "--save-dir", "OUT"],
    "data set": ["utils", "--content", "dataset", "--id", "IN", "--save-dir", "OUT.jsonl.gz"],
}


@pytest.mark.parametrize("name", CALLS)
def test_everything_is_on_the_disk_before_it_is_vouched_for(folder, tmp_path, name):
    places = {"IN": folder / "in.jsonl", "MODEL": folder / "model", "OUT": tmp_path / "out", "NO": tmp_path / "no"}
    words = []
    for word in CALLS[name]:
        key, sign, value = word.rpartition("=")
        stem = value.split(".")[0]
        words.append(f"{key}{sign}{places[stem]}{value.removeprefix(stem)}" if stem in places else word)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "DELT_CACHE": str(tmp_path / "cache")}
    done, events = trace([sys.executable, "-m", *words], tmp_path / "strace", env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert any(event.name == "rename" and event.other.name.endswith(".manifest.json") for event in events)
    assert faults(events, tmp_path) == []
