"""Going on from another training: A, then B from its checkpoint, is A and B in one run; the rest is refused."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.messages.errors import UserError
from model_eval.provenance import made_by
from model_train import checkpoints
from model_train.continuing import Moments
from model_train.entry import STAGE
from tests.model_train.conftest import FIXED, ROWS, write_rows
from tests.models import each_once, save_model

# One row a sequence and four a step: 5 steps of the first half of the rows, 5 of the second one.
CONSTANT = ["packing=none", "scheduler=constant", "min_learning_rate=null", "warmup_steps=0", "save_steps=4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the model of all rows in one go, `whole`, and that of the first half of them, `first`."""
    folder = tmp_path_factory.mktemp("trained")
    model = save_model(folder / "model")
    for out, rows in (("whole", ROWS), ("first", ROWS[:20])):
        write_rows(folder / "in.jsonl", rows)
        paths = [str(folder / "in.jsonl"), model, str(folder / out)]
        assert main(STAGE, [*paths, "pretrain", *each_once(*FIXED, *CONSTANT)]) == 0
    return folder


@pytest.fixture
def halves(run, trained):
    """Both models, and the second half of the rows in in.jsonl."""
    for out in ("whole", "first"):
        shutil.copytree(trained / out, run.folder / out)
        shutil.copy(trained / f"{out}.manifest.json", run.folder)
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


def test_killed_and_averaged_it_gives_the_same(halves, monkeypatch):
    keys = going_on(halves, "save_steps=1", "average=uniform", "average_every=1", "average_last=3")
    on_save = checkpoints.AtomicCheckpoints.on_save

    def save_and_stop(self, args, state, control, **rest):
        on_save(self, args, state, control, **rest)
        if state.global_step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.AtomicCheckpoints, "on_save", save_and_stop)
        assert main(STAGE, words(halves, "second", *keys)) == 130
    train(halves, "second", *keys)
    whole = weights(halves, "whole")
    assert same(weights(halves, "second/last"), whole)
    parts = [weights(halves, f"second/checkpoint-{step}") for step in (3, 4, 5)]
    for name, tensor in weights(halves, "second").items():
        torch.testing.assert_close(tensor, sum(part[name] for part in parts) / 3)


def test_it_goes_on_from_the_last_weights_of_an_averaged_run(halves):
    write_rows(halves.folder / "in.jsonl", ROWS[:20])
    train(halves, "averaged", "average=uniform", "average_every=1", "average_last=3")
    write_rows(halves.folder / "in.jsonl", ROWS[20:])
    train(halves, "second", f"continue_from={halves.folder}/averaged")
    assert same(weights(halves, "second"), weights(halves, "whole"))


def test_two_processes_go_on_as_one(halves):
    code = (
        "import sys; from data_common.messages.errors import exit_code; from data_common.calls.launch import launch; "
    )
    code += "sys.exit(exit_code(lambda: launch('model_train.entry', sys.argv[1:])))"
    call = words(halves, "second", *going_on(halves, "gradient_accumulation_steps=1"))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "NPROC": "2"}
    done = subprocess.run([sys.executable, "-c", code, *call], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("optimizer: its state from ") == 1
    whole = weights(halves, "whole")
    for name, tensor in weights(halves, "second").items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-3, atol=1e-5)


def test_the_schedule_is_a_new_one(halves):
    train(halves, "second", *going_on(halves, "learning_rate=0.002", "scheduler=linear", "warmup_steps=3"))
    rates = [entry["learning_rate"] for entry in halves.log("second")]
    assert rates == pytest.approx([0.002 * (1 - step / 5) for step in range(5)])
    train(halves, "third", *going_on(halves, "learning_rate=0.002", "rewarmup_steps=2"))
    rates = [entry["learning_rate"] for entry in halves.log("third")]
    assert rates == pytest.approx([0, 0.001, 0.002, 0.002, 0.002])


def test_the_manifest_names_what_it_went_on_from(halves):
    train(halves, "second", *going_on(halves))
    manifest = json.loads((halves.folder / "second.manifest.json").read_text())
    checkpoint = f"{halves.folder}/first/checkpoint-5"
    assert manifest["continued_from"] == manifest["inputs"]["continue_from"]["path"] == checkpoint
    made = made_by(f"{halves.folder}/second")
    assert made["continue_from.method"] == "pretrain" and made["continue_from.checkpoint"] == 5
    assert made["continue_from.data"].startswith("content ") and "continue_from" not in made
    made = made_by(f"{halves.folder}/first/checkpoint-4")
    assert made["checkpoint"] == 4


def stepped(kind, shape=(3, 2), **keys):
    """A weight, and an optimizer of it that has made three steps."""
    weight = torch.nn.Parameter(torch.ones(shape))
    optimizer = kind([weight], **keys)
    for step in range(3):
        weight.grad = torch.full_like(weight, step + 1)
        optimizer.step()
    return weight, optimizer


def begin(folder, optimizer):
    Moments(folder).on_train_begin(None, None, None, optimizer=optimizer)


def test_the_moments_are_taken_and_the_rates_are_not(tmp_path):
    """Against the closed form of AdamW's moments: the mean of 1, 2, 3 and of their squares with decays 0.9 and 0.98."""
    _, before = stepped(torch.optim.AdamW, lr=1.0, betas=(0.9, 0.98), weight_decay=0.3)
    torch.save(before.state_dict(), tmp_path / "optimizer.pt")
    weight = torch.nn.Parameter(torch.zeros(3, 2, dtype=torch.float64))
    now = torch.optim.AdamW([weight], lr=0.5, betas=(0.9, 0.98), weight_decay=0.1)
    begin(tmp_path, now)
    state = now.state[weight]
    assert state["step"] == 3 and state["exp_avg"].dtype == torch.float64
    first, second = (
        sum((1 - decay) * decay ** (3 - number) * number**power for number in (1, 2, 3))
        for decay, power in ((0.9, 1), (0.98, 2))
    )
    torch.testing.assert_close(state["exp_avg"], torch.full_like(weight, first), rtol=1e-6, atol=0)
    torch.testing.assert_close(state["exp_avg_sq"], torch.full_like(weight, second), rtol=1e-6, atol=0)
    assert (now.param_groups[0]["lr"], now.param_groups[0]["weight_decay"]) == (0.5, 0.1)


@pytest.mark.parametrize(
    ("kind", "shape", "keys"),
    [(torch.optim.SGD, (3, 2), {}), (torch.optim.AdamW, (2, 3), {}), (torch.optim.Adagrad, (3, 2), {})],
)
def test_other_moments_are_refused(kind, shape, keys, tmp_path):
    torch.save(stepped(kind, shape, **keys)[1].state_dict(), tmp_path / "optimizer.pt")
    with pytest.raises(UserError, match="has no moments of AdamW for these weights"):
        begin(tmp_path, torch.optim.AdamW([torch.nn.Parameter(torch.ones(3, 2))]))


def other_architecture(folder):
    config = json.loads((folder / "model/config.json").read_text())
    (folder / "model/config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))


def other_tokenizer(folder):
    content = json.loads((folder / "model/tokenizer.json").read_text())
    content["pre_tokenizer"]["add_prefix_space"] = True
    (folder / "model/tokenizer.json").write_text(json.dumps(content))


def no_optimizer(folder):
    (folder / "first/checkpoint-5/optimizer.pt").unlink()


def damaged(folder):
    os.truncate(folder / "first/checkpoint-5/optimizer.pt", 100)


def no_checkpoint(folder):
    for checkpoint in folder.glob("first/checkpoint-*"):
        shutil.rmtree(checkpoint)


def unfinished(folder):
    (folder / "first").rename(folder / ".first.partial")


def changed(folder):
    (folder / "first/notes.txt").write_text("mine")


@pytest.mark.parametrize(
    ("change", "keys", "message"),
    [
        (other_architecture, [], "another architecture: rms_norm_eps is 1e-06 there and 0.5 in "),
        (other_tokenizer, [], "/first/checkpoint-5 has another tokenizer than "),
        (None, ["adam_beta2=0.95"], "another optimizer: adam_beta2 was 0.98, is 0.95"),
        (None, ["from_scratch=true"], "from_scratch=true draws new weights"),
        (None, [f"fsdp={REPOSITORY}/model_train/config/sharding/fsdp.yaml"], "which continue_from needs whole"),
        (no_checkpoint, [], "/first has no checkpoint with the state of the optimizer (a training keeps its last one"),
        (unfinished, [], "is no finished, unchanged model: name a checkpoint, say "),
        (changed, [], "is no finished, unchanged model: name a checkpoint, say "),
        (no_optimizer, ["/checkpoint-5"], "has no optimizer.pt, the optimizer's state"),
        (damaged, ["/checkpoint-5"], "checkpoint-5 is damaged (optimizer.pt)"),
        (None, ["/nowhere"], "/first/nowhere has no checkpoint with the state of the optimizer"),
    ],
)
def test_what_does_not_go_together_is_refused(halves, change, keys, message, capsys):
    if change:
        change(halves.folder)
    place = "".join(key for key in keys if key.startswith("/"))
    keys = [f"continue_from={halves.folder}/first{place}", *(key for key in keys if not key.startswith("/"))]
    assert main(STAGE, [*words(halves, "second", *keys), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_rewarmup_without_another_training_is_refused(run, capsys):
    assert main(STAGE, run.words("rewarmup_steps=3")) == 2
    assert "rewarmup_steps is of continue_from only" in capsys.readouterr().err


def test_a_checkpoint_that_would_be_removed_is_refused(halves, capsys):
    (halves.folder / "first").rename(halves.folder / ".second.partial")
    keys = [f"continue_from={halves.folder}/.second.partial/checkpoint-5", "resume=never"]
    assert main(STAGE, words(halves, "second", *keys)) == 2
    assert "checkpoint-5 is in the folder that this call works in: copy it" in capsys.readouterr().err


def test_it_learns_answers_after_texts(halves):
    """posttrain goes on from pretrain; an architecture file is enough of a MODEL_IN."""
    config = json.loads((halves.folder / "model/config.json").read_text())
    names = ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    names += ("num_key_value_heads", "max_position_embeddings", "tie_word_embeddings", "sliding_window")
    (halves.folder / "a.yaml").write_text(json.dumps({name: config[name] for name in names}))
    write_rows(halves.folder / "in.jsonl", [{"prompt": f"{number}?", "response": "yes"} for number in range(8)])
    call = [str(halves.folder / "in.jsonl"), str(halves.folder / "a.yaml"), str(halves.folder / "second"), "posttrain"]
    keys = [*FIXED, "scheduler=constant", "min_learning_rate=null", "epochs=1", f"tokenizer={halves.folder}/model"]
    assert main(STAGE, [*call, *each_once(*keys, *going_on(halves))]) == 0
    assert json.loads((halves.folder / "second.manifest.json").read_text())["optimizer_steps"] == 2
