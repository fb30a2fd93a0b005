"""Going on from another training: A, then B from its checkpoint, is A and B in one run; what does not fit is refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.files.contents import record_of
from model_eval.provenance import made_by
from model_train.entry import STAGE
from tests.model_train.conftest import ROWS, write_rows
from tests.model_train.test_resuming import kill_when, start
from tests.models import each_once, save_model

# One row a sequence and four a step: 10 steps of the first half of the rows, 10 of the second one.
CONSTANT = ["packing=none", "scheduler=constant", "min_learning_rate=null", "warmup_steps=0", "save_steps=4"]


@pytest.fixture
def halves(run):
    """The run of all rows in one go, `whole`; that of the first half of them, `first`; in.jsonl has the second half."""
    train(run, "whole")
    write_rows(run.folder / "in.jsonl", ROWS[:20])
    train(run, "first")
    write_rows(run.folder / "in.jsonl", ROWS[20:])
    return run


def words(run, out, *extra):
    found = run.words(*CONSTANT, *extra)
    return [*found[:2], str(run.folder / out), *found[3:]]


def train(run, out, *extra):
    assert main(STAGE, words(run, out, *extra)) == 0


def going_on(run, *extra):
    return [f"continue_from={run.folder}/first", *extra]


def weights(run, out):
    return load_file(run.folder / out / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("place", ["first", "first/checkpoint-5"])
def test_two_runs_are_one_in_two_parts(halves, place, capsys):
    train(halves, "second", f"continue_from={halves.folder}/{place}")
    assert same(weights(halves, "second"), weights(halves, "whole"))
    log, whole = halves.log("second"), halves.log("whole")[5:]
    assert [entry["loss"] for entry in log] == [entry["loss"] for entry in whole] and len(log) == 5
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5] and log[0]["tokens"] < 100
    out = capsys.readouterr().out
    assert f"weights: from {halves.folder}/first/checkpoint-5 " in out
    assert f"optimizer: its state from {halves.folder}/first/checkpoint-5 (continue_from)" in out
    assert f"continued from {halves.folder}/first/checkpoint-5" in out


def test_it_is_the_state_of_the_optimizer_that_tells_it_from_model_in(halves):
    train(halves, "second", *going_on(halves))
    other = words(halves, "other")
    other[1] = f"{halves.folder}/first"
    assert main(STAGE, other) == 0
    assert halves.log("other")[0]["loss"] == halves.log("second")[0]["loss"], "the same weights at the beginning"
    assert not same(weights(halves, "other"), weights(halves, "second"))
