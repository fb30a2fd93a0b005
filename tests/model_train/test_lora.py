"""Low-rank adapters: merged by the formula, other weights as they were, resumed to the same bits, wrong keys."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from model_train import checkpoints
from model_train.entry import STAGE
from model_train.lora import Lora
from tests.model_train.conftest import write_rows

ROWS = [{"prompt": f"say {n}", "response": f"row {n}", "score": n} for n in range(24)]
KEYS = ["max_length=32", "epochs=2", "batch_size=2", "gradient_accumulation_steps=1", "logging_steps=1"]


def post(run, *extra):
    return main(STAGE, run.words(*KEYS, *extra, method="posttrain"))


@pytest.fixture
def rows(run):
    write_rows(run.folder / "in.jsonl", ROWS)
    return run


def test_the_merged_weights_are_those_of_the_formula_and_the_rows_come_in_their_order(rows):
    assert post(rows) == 0
    order = [(entry["step"], entry["tokens"], entry["score"]) for entry in rows.log()]
    shutil.rmtree(rows.folder / "out")
    assert post(rows, "lora_rank=2", "lora_alpha=6", "lora_targets=[q_proj,down_proj]", "resume=never") == 0
    assert [(entry["step"], entry["tokens"], entry["score"]) for entry in rows.log()] == order
    before, after = load_file(rows.folder / "model/model.safetensors"), rows.weights()
    adapter = load_file(rows.folder / "out/adapter/adapter_model.safetensors")
    assert before.keys() == after.keys() and rows.log()[-1]["loss"] < rows.log()[0]["loss"]
    changed = set()
    for name, weight in before.items():
        a, b = (adapter.get(f"base_model.model.{name.removesuffix('.weight')}.lora_{one}.weight") for one in "AB")
        if a is None:
            assert torch.equal(after[name], weight), name
            continue
        changed.add(name.split(".")[-2])
        assert a.shape[0] == b.shape[1] == 2 and b.any()
        torch.testing.assert_close(after[name], weight + 6 / 2 * b @ a)
    assert changed == {"q_proj", "down_proj"}
    assert not json.loads((rows.folder / "out/config.json").read_text()).get("peft")


def test_an_interrupted_run_goes_on_to_the_same_bits(rows, monkeypatch):
    keys = ["lora_rank=4", "save_steps=5"]
    assert post(rows, *keys) == 0
    expected, log = rows.weights(), rows.log()
    shutil.rmtree(rows.folder / "out")
    (rows.folder / "out.manifest.json").unlink()
    save = checkpoints.AtomicCheckpoints.on_save

    def stop(self, args, state, control, **others):
        save(self, args, state, control, **others)
        if state.global_step == 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.AtomicCheckpoints, "on_save", stop)
        assert post(rows, *keys) == 130
    assert (rows.folder / ".out.partial/checkpoint-10").exists()
    assert post(rows, *keys) == 0
    found = rows.weights()
    assert all(torch.equal(found[name], expected[name]) for name in expected) and rows.log() == log


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["lora_alpha=4"], "lora_alpha goes with lora_rank, which is null"),
        (["lora_targets=[x]"], "lora_targets goes with lora_rank, which is null"),
        (["lora_rank=2", "chunked_loss=true"], "lora_rank and chunked_loss do not go together"),
        (["lora_rank=2", "average=uniform", "average_every=1"], "lora_rank and average do not go together"),
        (["lora_rank=2", "continue_from=x"], "lora_rank and continue_from do not go together"),
        (["lora_rank=2", "lora_targets=[nose]"], "linear layers of the model: down_proj, gate_proj"),
    ],
)
def test_keys_that_do_not_fit(rows, capsys, keys, message):
    assert post(rows, *keys) == 2
    assert message in capsys.readouterr().err


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"lora_rank=8: peft is not installed \(pip install peft\)"):
        Lora(lora_rank=8)
