"""Batch sizes that change on the way: against a walk step by step, closed accounting, killed and split runs."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_common.models.tokens import IGNORED
from model_train.batches import Batches
from model_train.entry import STAGE
from model_train.sequences import PackedBlocks, SeparateDocuments
from model_train.settings import BatchSizes
from tests.model_train.test_processes import finish
from tests.model_train.test_processes import start as start_two
from tests.model_train.test_resuming import kill_when, start
from tests.model_train.test_sequences import store_of

KINDS = {
    "packed": lambda store: PackedBlocks(store, 5, epochs=2.5),
    "apart": lambda store: PackedBlocks(store, 5, epochs=2.5, cross_document_attention=False),
    "separate": lambda store: SeparateDocuments(store, 5, epochs=2.5),
}
SCHEDULE = "batch_size_schedule=[{at: 0.3, batch_size: 1}, {at: 0.6, batch_size: 2}, {at: 0.8, batch_size: 5}]"


def walk(sequences, size, lanes, changes):
    """Numbers of the sequences of each micro-batch of each step; None where two changes meet one step, or none."""
    counts = [int(sequences.documents(number)[1].sum()) for number in range(len(sequences))]
    steps, number, left = [], 0, list(changes)
    while number < len(sequences):
        met = 0
        while left and sum(counts[:number]) >= round(left[0][0] * sum(counts)):
            size, met = left.pop(0)[1], met + 1
        if met > 1 or (met and not steps):
            return None
        steps.append([list(range(number + lane * size, number + (lane + 1) * size)) for lane in range(lanes)])
        number += lanes * size
    return None if left else steps


@given(
    st.lists(st.integers(2, 9), min_size=1, max_size=40),
    st.sampled_from(sorted(KINDS)),
    st.integers(1, 4),
    st.integers(1, 3),
    st.lists(st.tuples(st.floats(0.01, 0.99), st.integers(1, 6)), max_size=3, unique_by=lambda change: change[0]),
)
def test_each_step_has_the_sequences_that_a_walk_gives_it(lengths, kind, size, lanes, changes):
    sequences, changes = KINDS[kind](store_of(lengths)), sorted(changes)
    expected = walk(sequences, size, lanes, changes)
    if expected is None:
        with pytest.raises(UserError, match="batch_size_schedule: at="):
            Batches(sequences, size, lanes, changes)
        return
    batches = Batches(sequences, size, lanes, changes)
    assert batches.steps == len(expected) and len(batches) == batches.steps * lanes * batches.width
    tokens = 0
    for step, lines in enumerate(expected, 1):
        assert batches.size(step) == sum(map(len, lines))
        for lane, numbers in enumerate(lines):
            first = ((step - 1) * lanes + lane) * batches.width
            items = [batches[first + slot] for slot in range(batches.width)]
            assert all(item is None for item in items[len(numbers) :])
            for number, item in zip(numbers, items, strict=False):
                if number < len(sequences):
                    np.testing.assert_array_equal(item["input_ids"], sequences[number]["input_ids"])
                else:
                    assert (item["labels"] == IGNORED).all()
                tokens += int((item["labels"] != IGNORED).sum())
        counts = [sequences.documents(number)[1].sum() for line in lines for number in line if number < len(sequences)]
        assert batches.documents(step)[1].sum() == sum(counts)
    assert tokens == sequences.budget


def test_a_run_changes_its_batch_size_where_it_was_told(run, capsys):
    """In blocks of 15 tokens: 1,200 tokens are 80 blocks; at 360, 720 and 960 tokens stand 24, 48 and 64 of them."""
    assert main(STAGE, run.words("max_tokens=1200", SCHEDULE)) == 0
    sizes = [4] * 6 + [2] * 12 + [4] * 4 + [10, 10]
    log, facts = run.log(), run.manifest()
    assert [entry["batch_size"] for entry in log] == sizes
    assert [entry["tokens"] for entry in log] == np.minimum(15 * np.cumsum(sizes), 1200).tolist()
    assert facts["optimizer_steps"] == 24 and facts["trained_tokens"] == 1200
    assert facts["batch_size_steps"] == [7, 19, 23] and facts["batch_size_tokens"] == [360, 720, 960]
    rates = [entry["learning_rate"] for entry in log]
    by_step = [0.001 + 0.009 * (1 + np.cos(np.pi * max(0, step - 2) / 22)) / 2 for step in range(24)]
    assert rates == pytest.approx([0.01 * step / 2 if step < 2 else rate for step, rate in enumerate(by_step)])
    said = capsys.readouterr().out
    assert "batch_size 1 from step 7 of 24 on, behind 360 tokens, at " in said and "in.jsonl:1" in said
    assert "batch 4, " in said and "batch 10, " in said


def test_without_a_change_nothing_is_said_of_batches(run):
    assert main(STAGE, run.words("max_tokens=600")) == 0
    assert not [name for name in run.manifest() if name.startswith("batch_size")]
    assert all("batch_size" not in entry for entry in run.log())


def test_a_killed_run_goes_on_to_the_same_bytes(run):
    keys = ["max_tokens=4000", "save_steps=5", "logging_steps=7", SCHEDULE]
    assert main(STAGE, run.words(*keys)) == 0
    model, log = run.folder / "out/model.safetensors", run.log()
    expected = model.read_bytes()
    assert run.manifest()["batch_size_steps"] == [21, 61, 75]
    shutil.rmtree(run.folder / "out")
    work = run.folder / ".out.partial"
    for step in (25, 65):  # amidst the smallest and the one behind it
        said = kill_when(start(run, *keys), lambda step=step: (work / f"checkpoint-{step}").exists())
        assert work.exists() and not (run.folder / "out").exists(), f"the run was to be killed half-way: {said}"
    assert main(STAGE, run.words(*keys)) == 0
    assert model.read_bytes() == expected and run.log() == log


def test_two_processes_learn_as_one(run):
    keys = ["max_tokens=1200", SCHEDULE]
    finish(start_two(run, *keys, "gradient_accumulation_steps=1"))
    two, log = run.weights(), run.log()
    shutil.rmtree(run.folder / "out")
    assert main(STAGE, run.words(*keys)) == 0
    for name, tensor in run.weights().items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-3, atol=1e-5)
    for ours, theirs in zip(run.log(), log, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ([{"at": 0.5}], "at where at and batch_size are wanted"),
        ([{}], "nothing where"),
        ([{"at": 0.5, "batch_size": 2, "ramp": 3}], "at, batch_size, ramp where"),
        ([{"at": 0, "batch_size": 2}], "at=0 is no share of the run between 0 and 1"),
        ([{"at": 1, "batch_size": 2}], "at=1 is no share"),
        ([{"at": 60, "batch_size": 2}], "at=60 is no share"),
        ([{"at": 0.5, "batch_size": 2}, {"at": 0.5, "batch_size": 3}], "at=0.5 stands behind at=0.5: ascending"),
        ([{"at": 0.5, "batch_size": 2}, {"at": 0.4, "batch_size": 3}], "at=0.4 stands behind at=0.5: ascending"),
        ([{"at": 0.5, "batch_size": 0}], "batch_size=0 is no whole number above 0"),
        ([{"at": 0.5, "batch_size": float("inf")}], "batch_size=inf is no whole number above 0"),
        ([{"at": float("nan"), "batch_size": 2}], "at=nan is no share"),
        ([{"at": 0.5, "batch_size": 2.5}], "batch_size=2.5 is no whole number above 0"),
    ],
)
def test_nonsense_is_refused(schedule, message):
    with pytest.raises(UserError, match="batch_size_schedule: ") as caught:
        BatchSizes(batch_size_schedule=schedule)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[{at: 0.999, batch_size: 1}]", "at=0.999 of 1,200 tokens: no step begins there"),
        ("[{at: 0.49, batch_size: 4}, {at: 0.5, batch_size: 5}]", "at=0.5 of 1,200 tokens: the step that begins"),
        ("[0.5]", "batch_size_schedule: [0.5] is not valid"),
        ("[{at: half, batch_size: 4}]", "is not valid"),
    ],
)
def test_a_call_with_nonsense_is_refused(value, message, run, capsys):
    assert main(STAGE, run.words("max_tokens=1200", f"batch_size_schedule={value}")) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
