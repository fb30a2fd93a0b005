"""Every fault point of a small call of every stage: each write, fsync, rename and unlink fails or is the last one.

OUT is then the old one or the new one, whole; the same call gives what it should, and leaves nothing else behind.
Takes an hour: bash tests/run.sh -m slow tests/test_fault_points.py. DELT_FAULTS=10 tries every tenth point.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.cli import REPOSITORY
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
    "evaluation": (["model_eval.entry", "model", "out.yaml", "perplexity", "data=in.jsonl", "max_length=64"], None, []),
    "built-in model": (
        ["utils", "--content", "model", "--id", "tiny", "--data", "in.jsonl", "--save-dir", "out"],
        None,
        [],
    ),
}
OF_MODELS = ("perplexity", "lqs", "training", "evaluation", "built-in model")


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
    kept = {".jsonl", ".safetensors", ".yaml"}
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
    if name in OF_MODELS:
        writes: dict[Path, list[Place]] = {}
        for place in found:
            if place.call == "write":
                writes.setdefault(place.path, []).append(place)
        kept = {one for of_file in writes.values() for one in (of_file[0], of_file[len(of_file) // 2], of_file[-1])}
        found = [place for place in found if place.call != "write" or place in kept]
    return found[:: int(os.environ.get("DELT_FAULTS", "1"))]


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
    old = content(start)
    found = chosen(places(command([*words, *after]), tmp_path / "log", done, **options(done)), name)
    new = content(done)
    assert new and new != old and found
    for place in found:
        for fault in FAULTS:
            folder = tmp_path / "try"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(start, folder)
            what = f"{fault} at {place.call} {place.number} ({place.path.relative_to(done)})"
            broken = fail(command([*words, *after]), place, fault, **options(folder))
            assert "Traceback" not in broken.stderr, f"{what}: {broken.stderr}"
            killed = fault == "signal=KILL"
            assert killed or broken.returncode in (0, 2), f"{what}: {broken.returncode} {broken.stderr}"
            there = content(folder)
            assert there in (old, new) or (killed and not there and not old), f"{what}: OUT is neither old nor new"
            assert broken.returncode or there == new, f"{what}: exit 0 without the result"
            left = [path for path in debris(folder) if there == old or not path.endswith((".pending", ".old"))]
            assert killed or not left or name in ("training", "lqs"), f"{what}: {left}"
            again = run([*words, *after], folder)
            assert again.returncode == 0, f"{what}; then: {again.stderr}"
            assert content(folder) == new, f"{what}: the same call again gives something else"
            assert not debris(folder), f"{what}: {debris(folder)} after the same call again"
