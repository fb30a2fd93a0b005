"""Killed runs go on to the same weights; what belongs to another run is refused, and the difference named."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.files.durable import UMASK
from data_common.files.manifest import Run
from data_common.messages.errors import UserError
from model_train import checkpoints
from model_train.entry import STAGE
from model_train.resuming import working_in
from tests.model_train.conftest import ROWS, write_rows

LONG = ["max_tokens=4000", "save_steps=10", "save_total_limit=2", "logging_steps=7"]


def start(run, *extra):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "model_train.entry", *run.words(*extra)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_when(process, reached, patience=60):
    """SIGKILL as soon as `reached()`."""
    for _ in range(patience * 50):
        if reached() or process.poll() is not None:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    return process.communicate()[0]


def test_a_run_that_is_killed_again_and_again_gives_the_same_weights_and_log(run):
    assert main(STAGE, run.words(*LONG)) == 0
    expected, log = run.weights(), run.log()
    assert sorted(path.name for path in (run.folder / "out").glob("checkpoint-*")) == ["checkpoint-60", "checkpoint-67"]
    shutil.rmtree(run.folder / "out")
    work = run.folder / ".out.partial"
    moments = [
        lambda: work.exists(),  # at the very beginning
        lambda: list(work.glob("checkpoint-[12]0")),
        lambda: list(work.glob(".writing/checkpoint-[3456]0")),  # in the midst of a checkpoint
    ]
    for moment in moments:
        said = kill_when(start(run, *LONG), moment)
        assert work.exists() and not (run.folder / "out").exists(), f"the run was to be killed half-way: {said}"
    (work / ".writing/checkpoint-9999").mkdir(parents=True)
    assert main(STAGE, run.words(*LONG)) == 0
    assert not work.exists() and not (run.folder / ".out.lock").exists()
    actual = run.weights()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert run.log() == log
    assert [entry["step"] for entry in log] == sorted({*range(7, 67, 7), *range(10, 67, 10), 67})
    assert sorted(path.name for path in (run.folder / "out").glob("checkpoint-*")) == ["checkpoint-60", "checkpoint-67"]


@pytest.fixture
def interrupted(run, monkeypatch):
    """A run that stopped behind its second checkpoint."""
    stop = checkpoints.AtomicCheckpoints.on_save

    def save_and_stop(self, args, state, control, **rest):
        stop(self, args, state, control, **rest)
        if state.global_step == 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.AtomicCheckpoints, "on_save", save_and_stop)
        assert main(STAGE, run.words(*LONG)) == 130
    return run


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["learning_rate=0.02"], "learning_rate was 0.01, is 0.02 (resume=never starts over)"),
        (["packing=none", "seed=3"], "seed was 10, is 3; packing was sequential, is none"),
    ],
)
def test_another_configuration_is_refused_and_named(interrupted, capsys, changed, message):
    assert main(STAGE, interrupted.words(*LONG, *changed)) == 2
    error = capsys.readouterr().err
    assert "checkpoint-20 is of another run: " in error and message in error and error.count("\n") == 1
    assert main(STAGE, interrupted.words(*LONG, *changed, "resume=never")) == 0


def test_another_data_file_is_refused_and_named(interrupted, capsys):
    write_rows(interrupted.folder / "in.jsonl", ROWS[:-1])
    assert main(STAGE, interrupted.words(*LONG)) == 2
    error = capsys.readouterr().err
    assert (
        "checkpoint-20 is of another run: data changed (" in error and "in.jsonl, " in error and " bytes; now " in error
    )


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def zeroed(file):
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "trainer_state.json", "run.json"])
@pytest.mark.parametrize("damage", [cut, zeroed, os.remove])
def test_a_damaged_checkpoint_is_passed_over(interrupted, capsys, name, damage):
    work = interrupted.folder / ".out.partial"
    damage(work / "checkpoint-20" / name)
    assert main(STAGE, interrupted.words(*LONG)) == 0
    out = capsys.readouterr().out
    assert f"checkpoint-20 is damaged ({name})" in out and f"going on from {work}/checkpoint-10" in out


def test_a_damaged_checkpoint_that_is_named_is_refused(interrupted, capsys):
    checkpoint = interrupted.folder / ".out.partial/checkpoint-20"
    cut(checkpoint / "optimizer.pt")
    assert main(STAGE, interrupted.words(*LONG, f"resume={checkpoint}")) == 2
    assert "checkpoint-20 is damaged (optimizer.pt): choose an older one" in capsys.readouterr().err


def test_a_checkpoint_of_an_older_version_has_no_list_of_its_files(interrupted, capsys):
    for step in (10, 20):
        path = interrupted.folder / f".out.partial/checkpoint-{step}/run.json"
        record = json.loads(path.read_text())
        del record["files"], record["method_versions"]
        path.write_text(json.dumps(record))
    cut(path.with_name("model.safetensors"))
    assert main(STAGE, interrupted.words(*LONG)) == 0
    assert "checkpoint-20 is damaged (model.safetensors)" in capsys.readouterr().out


def test_going_on_says_nothing_of_weights_that_are_tied(interrupted, monkeypatch):
    said = []
    monkeypatch.setattr("transformers.trainer.logger.warning", lambda text, *rest: said.append(text))
    assert json.loads((interrupted.folder / "model/config.json").read_text())["tie_word_embeddings"]
    assert main(STAGE, interrupted.words(*LONG)) == 0
    assert not [text for text in said if "missing keys" in text]


def test_the_model_has_no_pickle_and_may_be_read_by_others(run):
    assert main(STAGE, run.words("max_tokens=100", "save_steps=2")) == 0
    files = [path for path in (run.folder / "out").rglob("*") if path.is_file()]
    assert not [path for path in files if path.name == "training_args.bin"]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {oct(0o666 & ~UMASK)}


def test_another_number_of_processes_is_refused(interrupted, capsys):
    record = interrupted.folder / ".out.partial/checkpoint-20/run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"processes": 2}))
    assert main(STAGE, interrupted.words(*LONG)) == 2
    assert "processes was 2, is 1" in capsys.readouterr().err


def test_a_checkpoint_can_be_named(interrupted, capsys, monkeypatch):
    work = interrupted.folder / ".out.partial"
    shutil.copytree(work / "checkpoint-10", interrupted.folder / "kept/checkpoint-10")
    assert main(STAGE, interrupted.words(*LONG)) == 0
    expected, log = interrupted.weights(), interrupted.log()
    shutil.rmtree(interrupted.folder / "out")
    capsys.readouterr()
    assert main(STAGE, interrupted.words(*LONG, f"resume={interrupted.folder}/kept/checkpoint-10")) == 0
    assert "going on from" in capsys.readouterr().out
    actual = interrupted.weights()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert interrupted.log() == log
    assert main(STAGE, interrupted.words(*LONG, "seed=1", "resume=nowhere/checkpoint-10")) == 2
    assert "is of another run: seed was 10, is 1" in capsys.readouterr().err
    shutil.rmtree(interrupted.folder / "out")
    assert main(STAGE, interrupted.words(*LONG, "seed=1", "resume=nowhere/checkpoint-10")) == 2
    assert "resume: nowhere/checkpoint-10 is no checkpoint" in capsys.readouterr().err


def test_a_checkpoint_is_a_model_to_go_on_with(interrupted):
    words = interrupted.words("max_tokens=200")
    words[1:3] = str(interrupted.folder / ".out.partial/checkpoint-10"), str(interrupted.folder / "other")
    assert main(STAGE, words) == 0
    assert json.loads((interrupted.folder / "other.manifest.json").read_text())["trained_tokens"] == 200


def test_a_model_of_another_run_is_replaced_only_when_asked_for(run, capsys):
    assert main(STAGE, run.words("max_tokens=50")) == 0
    before = run.weights()
    assert main(STAGE, run.words("max_tokens=60")) == 2
    assert "out is of another run: max_tokens was 50, is 60 (resume=never replaces it)" in capsys.readouterr().err
    assert all(torch.equal(run.weights()[name], before[name]) for name in before)
    assert main(STAGE, run.words("max_tokens=60", "resume=never")) == 0
    assert run.manifest()["trained_tokens"] == 60


def test_two_runs_cannot_train_the_same_model(run, capsys):
    with working_in(Run("model_train", "pretrain", {}, {}, str(run.folder / "out")), "auto"):
        assert main(STAGE, run.words("max_tokens=50")) == 2
    assert "another run is training" in capsys.readouterr().err


def test_no_space_is_told_before_the_training(run, capsys, monkeypatch):
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10_000))
    assert main(STAGE, run.words("max_tokens=50")) == 2
    assert "no space for a checkpoint in " in capsys.readouterr().err
    assert not (run.folder / "out").exists()


def test_a_disk_that_fills_up_stops_the_run_which_can_go_on(run, capsys, monkeypatch):
    free = [10**9]
    usage = lambda folder: shutil._ntuple_diskusage(10**9, 10**9, free[0])  # noqa: E731
    save = torch.save

    def full(*arguments, **options):
        if free[0] < 10**9:
            raise OSError(28, "No space left on device")
        return save(*arguments, **options)

    def after_the_first(self, args, state, control, **rest):
        on_save(self, args, state, control, **rest)
        free[0] = 10

    on_save = checkpoints.AtomicCheckpoints.on_save
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.AtomicCheckpoints, "on_save", after_the_first)
        patch.setattr(checkpoints.shutil, "disk_usage", usage)
        patch.setattr(torch, "save", full)
        assert main(STAGE, run.words(*LONG)) == 2
    assert "no space for a checkpoint in " in capsys.readouterr().err
    assert main(STAGE, run.words(*LONG)) == 0
    assert "checkpoint-10" in capsys.readouterr().out


def test_the_lock_goes_with_the_run(run):
    (run.folder / "mine").mkdir()
    (run.folder / "mine/file").write_text("mine")
    with pytest.raises(UserError), working_in(Run("model_train", "pretrain", {}, {}, str(run.folder / "mine")), "auto"):
        pass
    assert not (run.folder / ".mine.lock").exists()
