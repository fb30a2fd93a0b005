"""Nothing is lost: stages killed at any moment, and disks that are full."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest

from data_common.calls.stage import REPOSITORY
from data_common.files.manifest import read_manifest
from tests.records import declare

ROWS = 60_000
OLD = b'{"score": 0, "text": "the old output"}\n'
KINDS = {  # name of the output, keys of the call
    "file": ("out.jsonl", ["sorting"]),
    "shards": ("out", ["sorting", "rows_per_shard=7000"]),
}


@pytest.fixture(scope="module")
def lines():
    text = "x" * 100
    return [b'{"score": %d, "text": "%s"}\n' % (i * 7919 % ROWS, text.encode()) for i in range(ROWS)]


def score(line):
    return json.loads(line)["score"]


def start(folder, *words, stage="data_ordering", **options):
    command = [sys.executable, "-m", f"{stage}.entry", str(folder / "in.jsonl"), *words]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def content(path):
    """The bytes of a file, or of all files of a folder in the order of their names; None where nothing is."""
    if path.is_dir():
        return b"".join(part.read_bytes() for part in sorted(path.iterdir()))
    return path.read_bytes() if path.exists() else None


def kill_often(folder, lines, kind, times, seed):
    """Start a stage and kill it, again and again; then let it finish."""
    (folder / "in.jsonl").write_bytes(b"".join(lines))
    name, keys = KINDS[kind]
    target, wanted = folder / name, b"".join(sorted(lines, key=score))
    words = [str(target), *keys]
    begin = time.perf_counter()
    assert start(folder, *words).wait() == 0
    duration = time.perf_counter() - begin
    assert content(target) == wanted
    generator, killed = random.Random(seed), 0
    for _ in range(times):
        if content(target) != OLD:
            put_old(target, kind)
        process = start(folder, *words)
        time.sleep(generator.uniform(0.3, 1) * duration)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        found = content(target)
        if found is None:  # between the two renames by which a folder is replaced
            assert kind == "shards" and content(folder / ".out.old") == OLD
        assert found in (OLD, wanted, None)
        made = read_manifest(target)  # of what is there, or none
        assert made is None or (found == wanted) == ("rows_out" in made)
    assert killed >= times // 3
    process = start(folder, *words)
    assert process.wait() == 0, process.communicate()
    assert content(target) == wanted and read_manifest(target)["rows_out"] == ROWS
    assert {path.name for path in folder.iterdir()} == {"in.jsonl", name, f"{name}.manifest.json"}


def put_old(target, kind):
    """An older output of the stages where the new one will be."""
    if kind == "file":
        target.write_bytes(OLD)
    else:
        target.mkdir(exist_ok=True)
        for part in target.iterdir():
            part.unlink()
        (target / "part-00000.jsonl").write_bytes(OLD)
    declare(target)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments(tmp_path, lines, kind):
    kill_often(tmp_path, lines, kind, times=5, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_many_random_moments(tmp_path, lines, kind):
    kill_often(tmp_path, lines, kind, times=25, seed=1)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("out.jsonl", ["top-r", "r=1"]),
        ("out.jsonl.zst", ["top-r", "r=1"]),
        ("out", ["top-r", "r=1", "rows_per_shard=50000"]),
        ("out.jsonl", ["top-k", "k=1", "rejects=REJECTS"]),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_the_old_output(tmp_path, lines, name, keys):
    incompressible = random.Random(0).randbytes
    rows = [line[:-3] + incompressible(60).hex().encode() + b'"}\n' for line in lines]
    (tmp_path / "in.jsonl").write_bytes(b"".join(rows))
    target, rejects = tmp_path / name, tmp_path / "rejects.jsonl"
    put_old(target, "shards" if name == "out" else "file")
    before = {path.name for path in tmp_path.iterdir()}
    keys = [key.replace("REJECTS", str(rejects)) for key in keys]

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    words = [str(target), *keys, "direction=higher"]
    process = start(tmp_path, *words, stage="data_selection", preexec_fn=small_files)
    _, error = process.communicate()
    assert process.returncode == 2, error
    assert error.count("\n") == 1 and error.startswith(f"error: cannot write {tmp_path}") and "large" in error
    assert content(target) == OLD
    assert not rejects.exists() and read_manifest(target)["method"] == "fake"
    assert {path.name for path in tmp_path.iterdir()} == before
