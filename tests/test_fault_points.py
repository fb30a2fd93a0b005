"""Every fault point of a small call of every stage: each write, fsync, rename and unlink fails or is the last one.

OUT is then the old one or the new one, whole; the same call gives what it should, and leaves nothing else behind.
Takes hours: bash tests/run.sh -m slow tests/test_fault_points.py. DELT_FAULTS=10 tries each fault at every tenth point
only, and one of them at the first, a middle and the last point of each kind of system call.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_common.calls.stage import REPOSITORY
from tests.models import save_model
from tests.strace import ABSENT, Place, can_trace, fail, places

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not can_trace(), reason=ABSENT)]
FAULTS = ("error=ENOSPC", "error=EIO", "signal=KILL")
TRAIN = ["max_length=32", "max_tokens=300", "batch_size=4", "save_steps=2", "gradient_accumulation_steps=1"]
LQS = ["annotator_model=model", "target_data=in.jsonl", "steps=2", "interval=1", "batch_size=4", "max_length=32"]
LQS += ["proxy_size=25", "scorer_model=null", "scorer_epochs=1", "scorer_batch_size=8", "overwrite=true"]
SCORE = ["model=model", "max_length=64", "overwrite=true"]
CALLS = {  # name -> (output, words of an older call, words of the call), whether all writes are tried
    "selection": (["data_selection.entry", "in.jsonl", "out.jsonl", "top-r", "direction=higher"], ["r=0.2"], ["r=0.5"]),
    "ordering": (["data_ordering.entry", "in.jsonl", "out.jsonl"], ["shuffle"], ["sorting", "plot=true"]),
    "shards": (
        ["data_ordering.entry", "in.jsonl", "out"],
        ["shuffle", "rows_per_shard=9"],
        ["sorting", "rows_per_shard=7"],
    ),
    "in place": (["data_ordering.entry", "out.jsonl", "out.jsonl"], None, ["sorting"]),
    "combine": (
        ["data_scoring.entry", "in.jsonl", "out.jsonl", "combine", "score_field=new", "lower_is_better=[]"],
        ["fields=[score]"],
        ["fields=[score,other]"],
    ),
    "perplexity": (["data_scoring.entry", "in.jsonl", "out.jsonl", "perplexity", *SCORE], None, ["metric=bpb"]),
    "lqs": (["data_scoring.entry", "in.jsonl", "out.jsonl", "lqs", *LQS], None, []),
    "training": (["model_train.entry", "in.jsonl", "model", "out", "pretrain", *TRAIN], None, []),
    "tokens": (["model_train.entry", "in.jsonl", "model", "out", "tokenize"], None, []),
    "evaluation": (["model_eval.entry", "model", "out.yaml", "perplexity", "data=in.jsonl", "max_length=64"], None, []),
    "built-in model": (
        ["utils", "--content", "model", "--id", "tiny", "--data", "in.jsonl", "--save-dir", "out"],
        None,
        [],
    ),
}
OF_MODELS = ("perplexity", "lqs", "training", "tokens", "evaluation", "built-in model")


def command(words):
    return [sys.executable, "-m", *words]


def options(folder):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "DELT_CACHE": str(folder / "cache")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {"env": environment, "cwd": folder}


def run(words, folder):
    return subprocess.run(command(words), capture_output=True, text=True, **options(folder))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    rows = [{"text": f"row {n} " + "of words " * (n % 4 + 1), "score": n * 7 % 30, "other": n % 5} for n in range(30)]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_model(folder / "model")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """What counts of OUT: rows, weights, results; not seconds."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0].startswith("out")
    ]
    kept = {".jsonl", ".safetensors", ".yaml", ".bin", ".idx"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.suffix in kept and ".work" not in path.relative_to(folder).parts[0] and path.name != "train_log.jsonl"
    }


def debris(folder: Path) -> list[str]:
    """Hidden files and folders beside OUT and in the caches."""
    return sorted(str(path) for path in folder.rglob(".*") if path.name != ".lock")


def chosen(found: list[Place], name: str) -> list[Place]:
    """All, of model stages not every write: the first, a middle and the last of each file."""
    if name not in OF_MODELS:
        return found
    kept = {place for of_file in groups(found, "path") for place in ends(of_file)}
    return [place for place in found if place.call != "write" or place in kept]


def tries(found: list[Place]) -> list[tuple[Place, str]]:
    """All places with all faults; with DELT_FAULTS=k those of every k-th place, and three of each kind of call."""
    every = int(os.environ.get("DELT_FAULTS", "1"))
    kept = {
        (place, FAULTS[(shift + number) % len(FAULTS)])
        for shift, of_call in enumerate(groups(found, "call"))
        for number, place in enumerate(ends(of_call))
    }
    pairs = [(place, fault, number + turn) for number, place in enumerate(found) for turn, fault in enumerate(FAULTS)]
    return [(place, fault) for place, fault, number in pairs if number % every == 0 or (place, fault) in kept]


def groups(found: list[Place], by: str) -> list[list[Place]]:
    together: dict[Any, list[Place]] = {}
    for place in found:
        together.setdefault((place.call, getattr(place, by)), []).append(place)
    return list(together.values())


def ends(places: list[Place]) -> tuple[Place, ...]:
    return places[0], places[len(places) // 2], places[-1]


@pytest.mark.parametrize("name", CALLS)
def test_a_fault_at_any_point_costs_nothing_but_time(inputs, tmp_path, name):
    words, before, after = CALLS[name]
    start, done = tmp_path / "start", tmp_path / "done"
    shutil.copytree(inputs, start)
    if name == "in place":
        shutil.copy(start / "in.jsonl", start / "out.jsonl")
    if before is not None:
        assert run([*words, *before], start).returncode == 0
    shutil.copytree(start, done)
    found = chosen(places(command([*words, *after]), tmp_path / "log", done, **options(done)), name)
    old, new = content(start), content(done)
    assert new and new != old and found
    failures = []
    for place, fault in tries(found):
        shutil.rmtree(tmp_path / "try", ignore_errors=True)
        shutil.copytree(start, tmp_path / "try")
        try:
            place_there = place._replace(path=tmp_path / "try" / place.path.relative_to(done))
            check([*words, *after], tmp_path / "try", place_there, fault, old, new, stays=name in ("training", "lqs"))
        except AssertionError as failure:
            failures.append(f"{fault} at {place.call} {place.number} ({place.path.relative_to(done)}): {failure}")
    assert not failures, "\n".join(failures)


def check(words, folder, place, fault, old, new, stays):
    """One fault, and the same call again. stays: whether what a failed call has left may be there until then."""
    broken = fail(command(words), place, fault, **options(folder))
    assert "Traceback" not in broken.stderr, broken.stderr
    killed = fault == "signal=KILL"
    assert killed or broken.returncode in (0, 2), f"{broken.returncode} {broken.stderr}"
    there = content(folder)
    assert there in (old, new) or (killed and not there and not old), "OUT is neither old nor new"
    assert broken.returncode or there == new, "exit 0 without the result"
    left = [path for path in debris(folder) if there == old or not path.endswith((".pending", ".delt-old"))]
    removed = [str(place.path)] if place.call.startswith(("unlink", "rmdir")) else []  # what could not be
    assert killed or stays or set(left) <= set(removed), left
    again = run(words, folder)
    assert again.returncode == 0, f"then: {again.stderr}"
    assert content(folder) == new, "the same call again gives something else"
    assert not debris(folder), f"{debris(folder)} after the same call again"
