"""Two processes see the rows that one sees, step by step, and learn the same; killed, they go on."""

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
from model_train import trainer
from model_train.entry import STAGE

CALLER = """
import sys
from data_common.messages.errors import exit_code
from data_common.calls.launch import launch
sys.exit(exit_code(lambda: launch("worker", sys.argv[1:])))
"""

# Trains, and notes the labels of every sequence that this process sees.
WORKER = """
import json, sys
from data_common.parallel import distributed
from data_common.calls.cli import main
from model_train import trainer
from model_train.entry import STAGE

collate, notes = trainer.collate, open(f"{sys.argv[1]}/seen-{distributed.rank()}.jsonl", "w")

def noting(items, flat=False):
    notes.write(json.dumps([item["labels"].tolist() for item in items if item is not None]) + "\\n")
    notes.flush()
    return collate(items, flat)

trainer.collate = noting
sys.exit(main(STAGE, sys.argv[2:]))
"""


def start(run, *extra):
    """Two processes."""
    (run.folder / "worker.py").write_text(WORKER)
    environment = os.environ | {"PYTHONPATH": f"{run.folder}:{REPOSITORY}", "NPROC": "2"}
    command = [sys.executable, "-c", CALLER, str(run.folder), *run.words(*extra)]
    return subprocess.Popen(command, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    return output


def test_each_step_is_the_same_block_of_rows_and_the_same_loss(run, monkeypatch):
    """One process with accumulation 4, two with accumulation 2; the last batch is incomplete."""
    finish(start(run, "max_tokens=700", "gradient_accumulation_steps=2"))
    log, weights = run.log(), run.weights()
    shutil.rmtree(run.folder / "out")
    lines = [(run.folder / f"seen-{rank}.jsonl").read_text().split("\n")[:-1] for rank in (0, 1)]
    two = [json.loads(line) for micro_step in zip(*lines, strict=True) for line in micro_step]
    one, collate = [], trainer.collate

    def noting(items, flat):
        one.append([item["labels"].tolist() for item in items])
        return collate(items, flat)

    monkeypatch.setattr(trainer, "collate", noting)
    assert main(STAGE, run.words("max_tokens=700", "gradient_accumulation_steps=4")) == 0
    assert two == one and len(one) % 4 == 0  # micro-batches of both processes in turn: step s is those from 4 s
    assert any(set(labels) == {-100} for micro_batch in one[-4:] for labels in micro_batch), "the last one is filled"
    for entry, expected in zip(run.log(), log, strict=True):
        assert entry["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert [entry[name] for name in ("step", "tokens", "score")] == [
            expected[name] for name in ("step", "tokens", "score")
        ]
    for name, tensor in run.weights().items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-3, atol=1e-5)


def test_two_killed_processes_go_on_to_the_same_weights(run):
    extra = ["packing=none", "epochs=4", "save_steps=4", "save_total_limit=1"]
    finish(start(run, *extra))
    expected, log = run.weights(), run.log()
    shutil.rmtree(run.folder / "out")
    process = start(run, *extra)
    work = run.folder / ".out.partial"
    for _ in range(3000):
        if list(work.glob("checkpoint-*")) or process.poll() is not None:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)  # the launcher alone: the two must not train on
    process.communicate()
    assert work.exists() and not (run.folder / "out").exists(), "the run was to be killed half-way"
    assert "going on from" in finish(start(run, *extra))
    actual = run.weights()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert run.log() == log


@pytest.mark.parametrize(
    ("launcher", "line"),
    [
        ("torchrun", "-m torch.distributed.run --module --nproc-per-node=2 --standalone model_train.entry in.jsonl"),
        ("accelerate", "--num_processes=2 --num_machines=1 "),
        ("deepspeed", "-m deepspeed.launcher.runner --num_gpus=2 --num_nodes=1 --no_local_rank --module"),
    ],
)
def test_a_dry_run_prints_the_line(launcher, line, monkeypatch, capsys):
    monkeypatch.setenv("NPROC", "2")
    monkeypatch.setenv("LAUNCHER", launcher)
    assert main(STAGE, ["in.jsonl", "model", "out", "pretrain", "seed=1", "--dry-run=keys"]) == 0
    launch = capsys.readouterr().out.split("\n")[-2]
    assert launch.startswith("# launch: ") and line in launch and launch.endswith(" in.jsonl model out pretrain seed=1")


def test_the_line_for_more_machines(monkeypatch, capsys):
    environment = {"NPROC": "8", "NNODES": "2", "NODE_RANK": "1", "RDZV_ENDPOINT": "first:29500"}
    lines = {}
    for launcher in ("torchrun", "accelerate", "deepspeed"):
        for name, value in (environment | {"LAUNCHER": launcher}).items():
            monkeypatch.setenv(name, value)
        assert main(STAGE, ["in.jsonl", "model", "out", "pretrain", "--dry-run=keys"]) == 0
        lines[launcher] = capsys.readouterr().out.split("\n")[-2]
    assert "--nnodes=2 --node-rank=1 --rdzv-endpoint=first:29500" in lines["torchrun"]
    assert "--num_processes=16 --num_machines=2 --machine_rank=1" in lines["accelerate"]
    assert "--main_process_ip=first --main_process_port=29500" in lines["accelerate"]
    assert "--num_nodes=2 " in lines["deepspeed"] and "--node_rank=1 --master_addr=first" in lines["deepspeed"]


@pytest.mark.parametrize(
    ("launcher", "message"),
    [("acelerate", "did you mean 'accelerate'?"), ("deepspeed", "pip install deepspeed")],
)
def test_a_launcher_that_is_not_there(launcher, message, run, monkeypatch, capsys):
    monkeypatch.setenv("NPROC", "2")
    monkeypatch.setenv("LAUNCHER", launcher)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(STAGE, run.words()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "message"),
    [("fsdp=fsdp", "needs several GPUs"), ("deepspeed=zero2", "pip install deepspeed")],
)
def test_sharding_that_cannot_be_had_is_refused(key, message, run, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    name, file = key.split("=")
    assert main(STAGE, run.words(f"{name}={REPOSITORY}/model_train/config/sharding/{file}.yaml")) == 2
    assert message in capsys.readouterr().err
