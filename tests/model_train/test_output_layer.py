"""The chunked loss is the ordinary one: value, gradients, trained model; what it cannot do is refused."""

import copy
import json
import math
import shutil

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, MistralConfig

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.messages.errors import UserError
from model_train import checkpoints
from model_train.entry import STAGE
from model_train.output_layer import POSITIONS, TrainingHead, chunk_the_loss, chunked_loss
from tests.models import SHAPE, VOCABULARY

GPT2 = {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def build(kind, tied=True, dtype=torch.float64):
    """A model in training mode, with weights far enough from zero that every gradient counts."""
    if kind == "gpt2":
        config = GPT2Config(**GPT2, **NO_DROPOUT, tie_word_embeddings=tied)
    else:
        config = MistralConfig(**SHAPE, tie_word_embeddings=tied, sliding_window=None)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(dtype).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def batch():
    """9 x 40 positions: more than a chunk, and no multiple of one; some labels are ignored."""
    ids = torch.randint(VOCABULARY, (9, 40), generator=torch.Generator().manual_seed(1))
    assert ids.numel() > POSITIONS and ids.numel() % POSITIONS
    labels = ids.clone()
    labels[:, 5:11], labels[3] = -100, -100
    return ids, labels


def full_loss(model, ids, labels, items=None):
    """Oracle: torch's own cross-entropy of all logits."""
    logits = model(input_ids=ids).logits[:, :-1].flatten(0, 1)
    if items is None:
        return cross_entropy(logits, labels[:, 1:].flatten())
    return cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum") / items


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["gpt2", "mistral"])
@pytest.mark.parametrize("items", [None, 700])
def test_loss_and_all_gradients_are_those_of_full_logits(kind, tied, items):
    (ids, labels), model = batch(), build(kind, tied)
    ordinary = copy.deepcopy(model)
    chunk_the_loss(model, torch.float64)
    found = model(input_ids=ids, labels=labels, num_items_in_batch=None if items is None else torch.tensor(items))
    assert found.logits.shape == (9, 40, 16), "no logits: the states"
    expected = full_loss(ordinary, ids, labels, items)
    assert found.loss.item() == pytest.approx(expected.item(), abs=1e-10)
    found, expected = gradients(model, found.loss), gradients(ordinary, expected)
    assert found.keys() == expected.keys() and len(found) == len(list(model.parameters()))
    for name, gradient in expected.items():
        assert gradient.abs().max() > 1e-6
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10)


def test_labels_that_are_shifted_already_and_a_bias():
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(2, 200, 16, dtype=torch.float64, generator=generator, requires_grad=True)
    targets = torch.randint(30, (2, 200), generator=generator)
    targets[1, 50:90] = 7
    head = torch.nn.Linear(16, 30, dtype=torch.float64)
    found = chunked_loss(states, head, None, shift_labels=targets, ignore_index=7)
    expected = cross_entropy(head(states).flatten(0, 1), targets.flatten(), ignore_index=7)
    inputs = (states, head.weight, head.bias)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    for pair in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(*pair, rtol=0, atol=1e-10)


def test_evaluation_and_the_saved_model_are_unchanged(tmp_path):
    (ids, labels), model = batch(), build("mistral")
    ordinary = copy.deepcopy(model)
    names = list(model.state_dict())
    chunk_the_loss(model, torch.float64)
    assert model.training and list(model.state_dict()) == names
    with torch.no_grad():
        found, expected = (one.eval()(input_ids=ids, labels=labels) for one in (model, ordinary))
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.loss, expected.loss)
    for name, one in (("found", model), ("expected", ordinary)):
        one.save_pretrained(tmp_path / name)
    for path in (tmp_path / "expected").iterdir():
        assert (tmp_path / "found" / path.name).read_bytes() == path.read_bytes()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "found")
    assert type(loaded.lm_head) is torch.nn.Linear and isinstance(model.lm_head, TrainingHead)


def test_no_tensor_of_positions_by_vocabulary_exists():
    (ids, labels), model = batch(), build("mistral")
    chunk_the_loss(model, torch.float64)
    with torch.profiler.profile(record_shapes=True) as chunked:
        model(input_ids=ids, labels=labels).loss.backward()
    with torch.profiler.profile(record_shapes=True) as whole:
        full_loss(model.eval(), ids, labels).backward()
    widest = [
        max(
            math.prod(shape[:-1])
            for event in profile.events()
            for shape in event.input_shapes
            if shape and shape[-1] == VOCABULARY
        )
        for profile in (chunked, whole)
    ]
    assert widest == [POSITIONS, 9 * 40]


def test_bfloat16_autocast_is_close_to_the_ordinary_loss():
    """Both round to 8 bits in the products; the loss itself is added up in float32, also over several chunks."""
    (ids, labels), model = batch(), build("mistral", dtype=torch.float32)
    ordinary = copy.deepcopy(model)
    chunk_the_loss(model, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = (one(input_ids=ids, labels=labels).loss for one in (model, ordinary))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=2e-4)
    found, expected = gradients(model, found), gradients(ordinary, expected)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() < 0.02 * gradient.norm(), name


def test_bounded_logits_and_a_loss_of_its_own_are_refused():
    model = AutoModelForCausalLM.from_config(Gemma2Config(**SHAPE, head_dim=4, final_logit_softcapping=3.0))
    message = "^the output layer of Gemma2ForCausalLM is not a plain linear one: chunked_loss=false$"
    with pytest.raises(UserError, match=message):
        chunk_the_loss(model, torch.float32)

    model = build("mistral")
    forward = model.forward

    def own(input_ids, labels=None, **options):
        output = forward(input_ids, **options)
        if labels is not None:
            output.loss = full_loss(model, input_ids, input_ids)
        return output

    model.forward = own
    with pytest.raises(UserError, match="MistralForCausalLM computes its loss in a way of its own"):
        chunk_the_loss(model, torch.float64)


def test_a_run_has_nearly_the_same_losses_and_the_same_files(run):
    words = ["save_steps=10", "max_length=24", "batch_size=8", f"heldout_data={run.folder}/in.jsonl"]
    seen = []
    for extra in ("chunked_loss=false", "chunked_loss=true"):
        assert main(STAGE, run.words(*words, "heldout_steps=5", extra)) == 0
        files = {path.relative_to(run.folder / "out") for path in (run.folder / "out").rglob("*")}
        config = (run.folder / "out/config.json").read_text()
        seen.append((run.log(), run.manifest(), files, config, {name: x.shape for name, x in run.weights().items()}))
        shutil.rmtree(run.folder / "out")
    (whole, manifest, *same), (chunked, chunked_manifest, *same_too) = seen
    assert same == same_too
    for found, expected in zip(chunked, whole, strict=True):
        assert found == pytest.approx(expected, rel=1e-3)
    assert chunked_manifest["heldout_loss"] == pytest.approx(manifest["heldout_loss"], rel=1e-3)


def test_an_interrupted_run_goes_on_to_the_same_weights_and_not_with_another_loss(run, monkeypatch, capsys):
    words = ["chunked_loss=true", "save_steps=5"]
    assert main(STAGE, run.words(*words)) == 0
    expected = run.weights()
    shutil.rmtree(run.folder / "out")
    save = checkpoints.AtomicCheckpoints.on_save

    def save_and_stop(self, *arguments, **options):
        save(self, *arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.AtomicCheckpoints, "on_save", save_and_stop)
        assert main(STAGE, run.words(*words)) == 130
    assert main(STAGE, run.words("save_steps=5")) == 2
    assert "chunked_loss was true, is false" in capsys.readouterr().err
    assert main(STAGE, run.words(*words)) == 0
    assert "going on from" in capsys.readouterr().out
    assert all(torch.equal(found, expected[name]) for name, found in run.weights().items())


@pytest.mark.parametrize(("key", "file"), [("fsdp", "fsdp"), ("deepspeed", "zero3")])
def test_a_spread_output_layer_is_refused(key, file, run, capsys):
    config = f"{REPOSITORY}/model_train/config/sharding/{file}.yaml"
    assert main(STAGE, run.words("chunked_loss=true", f"{key}={config}")) == 2
    error = capsys.readouterr().err
    assert error == f"error: {key} spreads the output layer, which chunked_loss needs whole: drop one of them\n"
    assert not (run.folder / "out").exists()


def test_posttrain_takes_the_key_too(run):
    rows = [{"prompt": f"say {i}", "response": "abc " * (1 + i % 3)} for i in range(12)]
    (run.folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    losses = []
    for extra in ("chunked_loss=false", "chunked_loss=true"):
        assert main(STAGE, run.words(extra, "max_length=32", "score_field=null", method="posttrain")) == 0
        losses.append([entry["loss"] for entry in run.log()])
        shutil.rmtree(run.folder / "out")
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
