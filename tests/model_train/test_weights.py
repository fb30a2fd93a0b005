"""Weighted rows: against steps made by hand, rows that stand twice, split and killed runs; bad weights."""

import copy
import itertools
import json
import math
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_common.models.tokens import IGNORED, encode
from model_train.batches import Batches
from model_train.entry import STAGE
from model_train.output_layer import chunk_the_loss, weigh_the_loss
from model_train.sequences import collate
from tests.model_train.conftest import write_rows
from tests.model_train.test_batches import KINDS
from tests.model_train.test_output_layer import batch, build, gradients
from tests.model_train.test_processes import finish
from tests.model_train.test_processes import start as start_two
from tests.model_train.test_resuming import kill_when, start
from tests.model_train.test_sequences import store_of
from tests.models import byte_tokenizer

WEIGHTS = [1, 0.25, 0, 3.5, 2, 0.5, 1e-3]
UNEQUAL = [{"text": f"row {i}: " + "abc " * (i % 7), "w": WEIGHTS[i % 7]} for i in range(40)]
STEADY = ["scheduler=constant", "min_learning_rate=null", "warmup_steps=0", "score_field=null"]


def as_bits(weights):
    return torch.tensor(weights, dtype=torch.float32).view(torch.int32).long()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("kind", ["gpt2", "mistral"])
def test_loss_and_gradients_are_those_of_weighted_tokens(kind, chunked):
    (ids, labels), model = batch(), build(kind)
    weights = torch.rand(labels.shape, generator=torch.Generator().manual_seed(3))
    weights[:, 20:25] = 0
    ordinary = copy.deepcopy(model)
    weigh_the_loss(model, torch.float64)
    if chunked:
        chunk_the_loss(model, torch.float64)
    found = model(input_ids=ids, labels=labels, token_weights=as_bits(weights.tolist()), num_items_in_batch=7).loss
    logits = ordinary(input_ids=ids).logits  # oracle: token by token
    expected = sum(
        weights[row, place].double() * cross_entropy(logits[row, place - 1], labels[row, place])
        for row, place in itertools.product(*map(range, labels.shape))
        if place and labels[row, place] != IGNORED
    )
    tolerance = 1e-10 if chunked else 1e-5  # of transformers, the cross-entropy of whole logits is in float32
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    found, expected = gradients(model, found), gradients(ordinary, expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=tolerance, atol=tolerance)


def test_without_weights_and_in_evaluation_the_loss_is_the_ordinary_one():
    (ids, labels), model = batch(), build("mistral")
    ordinary = copy.deepcopy(model)
    weigh_the_loss(model, torch.float64)
    assert model.training
    for items in (None, torch.tensor(7)):
        found, expected = (one(input_ids=ids, labels=labels, num_items_in_batch=items) for one in (model, ordinary))
        assert torch.equal(found.loss, expected.loss)


def test_weights_stay_exact_where_floats_are_cast():
    """As FSDP and DeepSpeed do with the floats of a batch, not with its integers."""
    weights = torch.tensor([1 / 3, 1e-7, 0.0])
    assert torch.equal(as_bits(weights.tolist()).to(torch.int32).view(torch.float32), weights)
    assert not torch.equal(weights.bfloat16().float(), weights)


def test_a_loss_of_its_own_is_refused():
    for spoil in ("forward", "loss"):
        model = build("mistral")
        if spoil == "loss":
            model.loss_function = lambda *_, **__: torch.tensor(0.0)
        else:
            forward = model.forward
            model.forward = lambda token_weights=None, forward=forward, **words: forward(**words)
        with pytest.raises(UserError, match="MistralForCausalLM computes its loss in a way of its own: weight_field"):
            weigh_the_loss(model, torch.float64)


@given(
    st.lists(st.tuples(st.integers(2, 9), st.sampled_from(WEIGHTS)), min_size=1, max_size=20),
    st.sampled_from(sorted(KINDS)),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_each_token_carries_its_rows_share_of_the_step(rows, kind, size, lanes):
    """Tokens are told apart by their numbers, so that the row of each is known."""
    lengths, weights = zip(*rows, strict=True)
    store, weights = store_of(lengths), np.array(weights, float)
    batches = Batches(KINDS[kind](store), size, lanes, weights=weights)
    places = size * lanes
    for step in range(batches.steps):
        items = [batches[place] for place in range(step * places, (step + 1) * places)]
        learned = [item["labels"][item["labels"] != IGNORED] for item in items]
        shares = [item["token_weights"].view(np.float32)[item["labels"] != IGNORED] for item in items]
        tokens = np.concatenate(learned)
        raw = weights[np.searchsorted(np.cumsum(lengths), tokens, side="right")]
        expected = raw / raw.sum() if raw.sum() else raw
        np.testing.assert_allclose(np.concatenate(shares), expected, rtol=1e-6)


def test_a_batch_has_the_weights_beside_its_labels():
    batches = Batches(KINDS["separate"](store_of([3, 5, 2])), 3, 1, [(0.7, 4)], np.array([1.0, 2.0, 4.0]))
    items = [batches[place] for place in range(4)]  # the fourth place is of the larger batch behind it
    bits = np.array([1, 1, 1, 2, 2, 2, 2, 2, 4, 4], np.float32) / 14  # 2, 4 and 1 tokens are predicted
    assert items[3] is None
    flat = collate(items, flat=True)["token_weights"].numpy().astype(np.int32).view(np.float32)
    np.testing.assert_array_equal(flat, bits[None])
    stacked = collate(items)["token_weights"].numpy().astype(np.int32).view(np.float32)
    expected = np.zeros((3, 5), np.float32)
    expected[0, :3], expected[1], expected[2, :2] = bits[:3], bits[3:8], bits[8:]
    np.testing.assert_array_equal(stacked, expected)


def by_hand(folder, rows, blocks_of, batch, accumulation, rate=0.01):
    """The steps of AdamW in plain torch, with the losses of all tokens of a step in one list. -> (model, losses)."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model").train()
    decayed = [weight for name, weight in model.named_parameters() if "norm" not in name]
    others = [weight for name, weight in model.named_parameters() if "norm" in name]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-6)
    blocks, logged = blocks_of(rows), []
    for first in range(0, len(blocks), batch * accumulation):
        losses, weights = [], []
        for ids, weight in blocks[first : first + batch * accumulation]:
            logits = model(input_ids=torch.tensor([ids])).logits[0]
            losses += [cross_entropy(logits[i - 1], torch.tensor(ids[i])) for i in range(1, len(ids))]
            weights += weight[1:]
        total = sum(weights)
        loss = sum(w * one for w, one in zip(weights, losses, strict=True)) / (total or 1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        logged.append(loss.item())
    return dict(model.named_parameters()), logged


def documents(rows):
    ids = encode([row["text"] for row in rows], byte_tokenizer())
    return [(list(map(int, one)), row["w"]) for one, row in zip(ids, rows, strict=True)]


def packed(rows):
    stream = [(token, weight) for ids, weight in documents(rows) for token in ids]
    pieces = [stream[first : first + 16] for first in range(0, len(stream) - 1, 15)]
    return [tuple(map(list, zip(*piece, strict=True))) for piece in pieces]


def separate(rows):
    return [(ids[:16], [weight] * len(ids[:16])) for ids, weight in documents(rows)]


@pytest.mark.parametrize(("packing", "blocks_of"), [("sequential", packed), ("none", separate)])
@pytest.mark.parametrize("chunked", ["false", "true"])
def test_a_run_takes_the_steps_made_by_hand(run, packing, blocks_of, chunked):
    write_rows(run.folder / "in.jsonl", UNEQUAL)
    assert main(STAGE, run.words(*STEADY, "weight_field=w", f"packing={packing}", f"chunked_loss={chunked}")) == 0
    expected, losses = by_hand(run.folder, UNEQUAL, blocks_of, 2, 2)
    assert [entry["loss"] for entry in run.log()] == pytest.approx(losses, rel=1e-4)
    for name, tensor in run.weights().items():
        torch.testing.assert_close(tensor, expected[name].detach(), rtol=1e-3, atol=2e-5)
    facts = run.manifest()
    assert (facts["lowest_weight"], facts["highest_weight"], facts["documents_of_weight_0"]) == (0, 3.5, 6)
    assert facts["mean_weight"] == pytest.approx(sum(row["w"] for row in UNEQUAL) / 40)
    assert facts["config"]["weight_field"] == "w"
    ordinary = [{**row, "w": 1} for row in UNEQUAL]
    plain, _ = by_hand(run.folder, ordinary, blocks_of, 2, 2)
    assert max((run.weights()[name] - plain[name]).abs().max().item() for name in plain if name in run.weights()) > 0.01


FORMS = {
    "pretrain": lambda i: {"text": f"row {i:02}: " + chr(97 + i % 26) * 6},
    "posttrain": lambda i: {"instruct": f"row {i:02}", "text": chr(97 + i % 26) * 5},
}


@pytest.mark.parametrize("method", FORMS)
def test_a_row_of_weight_2_is_that_row_twice(run, method):
    """In steps of 2 x 3 rows, two of which weigh 2; without weights of 2 x 4."""
    field = {"pretrain": "w", "posttrain": "weight"}[method]  # of which posttrain knows 0 and 1 by itself
    rows = [FORMS[method](i) | {field: weight} for i, weight in enumerate([2, 1, 1, 1, 1, 2] * 6)]
    keys = [*STEADY, "learning_rate=0.01", "epochs=1", *(["packing=none"] if method == "pretrain" else [])]
    write_rows(run.folder / "in.jsonl", rows)
    assert main(STAGE, run.words(*keys, f"weight_field={field}", "batch_size=3", method=method)) == 0
    weighted, log = run.weights(), run.log()
    write_rows(run.folder / "in.jsonl", [{**row, field: 1} for row in rows for _ in range(row[field])])
    assert main(STAGE, run.words(*keys, "batch_size=4", "resume=never", method=method)) == 0
    for name, tensor in run.weights().items():
        torch.testing.assert_close(weighted[name], tensor, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(log, run.log(), strict=True):
        for name in ("loss", "grad_norm"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4)
    assert len(log) == 6


def test_only_the_ratios_of_weights_matter(run):
    weights = {}
    for factor in (1, 1e29, 1e-30):
        write_rows(run.folder / "in.jsonl", [{**row, "w": row["w"] * factor} for row in UNEQUAL])
        assert main(STAGE, run.words(*STEADY, "weight_field=w", "resume=never")) == 0
        weights[factor] = run.weights()
    for factor in (1e29, 1e-30):
        for name, tensor in weights[1].items():
            torch.testing.assert_close(weights[factor][name], tensor, rtol=1e-3, atol=1e-5)


def test_a_step_whose_rows_all_weigh_0_has_no_gradient(run):
    """4 sequences of a row each: the first step learns nothing, the second one does."""
    write_rows(run.folder / "in.jsonl", [{**row, "w": int(i >= 4)} for i, row in enumerate(UNEQUAL[:8])])
    keys = ["weight_field=w", "packing=none", "weight_decay=0", "save_steps=1"]
    assert main(STAGE, run.words(*STEADY, *keys)) == 0
    (first, second), begin = run.log(), AutoModelForCausalLM.from_pretrained(run.folder / "model").state_dict()
    assert first["loss"] == first["grad_norm"] == 0 and second["loss"] > 1
    after = AutoModelForCausalLM.from_pretrained(run.folder / "out/checkpoint-1").state_dict()
    assert all(torch.equal(after[name], begin[name]) for name in begin)
    assert any(not torch.equal(tensor, begin[name]) for name, tensor in run.weights().items())


def test_two_processes_learn_as_one(run):
    write_rows(run.folder / "in.jsonl", UNEQUAL)
    keys = ["weight_field=w", "batch_size_schedule=[{at: 0.5, batch_size: 3}]"]
    finish(start_two(run, *keys, "gradient_accumulation_steps=1"))
    two, log = run.weights(), run.log()
    shutil.rmtree(run.folder / "out")
    assert main(STAGE, run.words(*keys)) == 0
    for name, tensor in run.weights().items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-3, atol=1e-5)
    for ours, theirs in zip(run.log(), log, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_a_killed_run_goes_on_to_the_same_bytes(run):
    write_rows(run.folder / "in.jsonl", UNEQUAL)
    keys = ["max_tokens=4000", "save_steps=5", "weight_field=w"]
    assert main(STAGE, run.words(*keys)) == 0
    model, log = run.folder / "out/model.safetensors", run.log()
    expected = model.read_bytes()
    shutil.rmtree(run.folder / "out")
    work = run.folder / ".out.partial"
    said = kill_when(start(run, *keys), lambda: (work / "checkpoint-25").exists())
    assert work.exists() and not (run.folder / "out").exists(), f"the run was to be killed half-way: {said}"
    assert main(STAGE, run.words(*keys)) == 0
    assert model.read_bytes() == expected and run.log() == log


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"w": -1}, "w is -1, not a weight from 0 to 1e+30"),
        ({"w": -0.001}, "w is -0.001, not a weight"),
        ({"w": 1e31}, "w is 1e+31, not a weight"),
        ({"w": math.nan}, "w is not a finite number"),
        ({"w": math.inf}, "w is not a finite number"),
        ({"w": None}, "w is null"),
        ({"w": "2"}, "w is a string, not a number"),
        ({"w": True}, "w is a boolean, not a number"),
        ({}, "w is missing"),
    ],
)
def test_a_bad_weight_is_an_error_with_its_place_or_is_dropped(run, capsys, bad, message):
    rows = [*UNEQUAL[:5], {"text": "bad", **bad}, *UNEQUAL[5:]]
    write_rows(run.folder / "in.jsonl", rows)
    for last in ([], ["--dry-run"]):
        assert main(STAGE, [*run.words("weight_field=w"), *last]) == 2
        said = capsys.readouterr().err
        assert f"in.jsonl:6: {message}" in said and said.count("\n") == 1
    assert main(STAGE, run.words("weight_field=w", "on_bad_row=drop")) == 0
    assert run.manifest()["rows"] == 40 and message in json.dumps(run.manifest())


def test_a_bad_weight_far_down_is_an_error_too(run, capsys):
    write_rows(run.folder / "in.jsonl", [*UNEQUAL * 5, {"text": "bad", "w": -2}])
    assert main(STAGE, run.words("weight_field=w")) == 2
    assert "in.jsonl:201: w is -2, not a weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "key", "message"),
    [
        ([{**row, "w": 0} for row in UNEQUAL], "w", "w is 0 in every row: nothing would be learned"),
        (UNEQUAL, "text", "weight_field=text is what is learned of a row, not its weight"),
        (UNEQUAL, "weight", "in.jsonl:1: weight is missing (numbers of the row: w)"),
    ],
)
def test_weights_that_cannot_be_meant(run, capsys, rows, key, message):
    write_rows(run.folder / "in.jsonl", rows)
    assert main(STAGE, run.words(f"weight_field={key}")) == 2
    assert message in capsys.readouterr().err


def test_nested_weights_and_unweighted_held_out_rows(run):
    write_rows(run.folder / "in.jsonl", [{"text": row["text"], "meta": {"w": row["w"]}} for row in UNEQUAL])
    write_rows(run.folder / "heldout.jsonl", [{"text": "held out text"}, {"text": "another", "meta": {"w": 9}}])
    keys = ["weight_field=meta.w", f"heldout_data={run.folder}/heldout.jsonl"]
    assert main(STAGE, run.words(*keys)) == 0
    model = AutoModelForCausalLM.from_pretrained(run.folder / "out")
    ids = encode(["held out text", "another"], byte_tokenizer())
    stream = torch.tensor([[*ids[0], *ids[1]]])
    blocks = [stream[:, first : first + 16] for first in range(0, stream.shape[1] - 1, 15)]
    losses = [model(input_ids=block, labels=block).loss.item() * (block.shape[1] - 1) for block in blocks]
    assert run.manifest()["heldout_loss"] == pytest.approx(sum(losses) / (stream.shape[1] - 1), rel=1e-5)
