"""Averaged weights: against hand-made and closed forms, killed runs, tied, bfloat16 and sharded weights."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.models.tokens import encode
from model_train.averaging import RunningAverage
from model_train.entry import STAGE
from model_train.settings import Averaging
from tests.model_train.conftest import write_rows
from tests.model_train.test_resuming import kill_when, start
from tests.models import byte_tokenizer, random_model

SHORT = ["max_tokens=1200", "save_steps=4", "average_last=3", "average_every=4"]  # 20 steps: 12, 16, 20


def by_hand(states, decay):
    """The mean of state dicts; decay: None = uniform."""
    mean = {name: tensor.double() for name, tensor in states[0].items()}
    if decay is None:
        return {name: sum(state[name].double() for state in states) / len(states) for name in mean}
    for state in states[1:]:
        mean = {name: decay * state[name].double() + (1 - decay) * tensor for name, tensor in mean.items()}
    return mean


@pytest.mark.parametrize(("kind", "decay"), [("uniform", None), ("exponential", None), ("exponential", 0.5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["mistral-tied", "llama-untied"])
def test_the_mean_of_hand_made_weights(kind, decay, dtype, name):
    keys = Averaging(average=kind, average_every=1, average_decay=decay)
    average = RunningAverage(range(1, 7), keys.newest)
    models = [random_model(name, dtype, seed) for seed in range(6)]
    for number, model in enumerate(models, 1):
        average.add(model, number)
    last = models[-1]
    with torch.no_grad():
        next(last.buffers()).fill_(7)
    average.put_into(last)
    exact = by_hand([dict(model.named_parameters()) for model in [*models[:-1], random_model(name, dtype, 5)]],
                    None if kind == "uniform" else decay or 0.2)  # fmt: skip
    tolerance = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 2**-8}[dtype]
    for key, tensor in last.named_parameters():
        assert tensor.dtype == dtype
        torch.testing.assert_close(tensor.double(), exact[key], rtol=tolerance, atol=tolerance / 10)
    assert (next(last.buffers()) == 7).all(), "buffers are those of the last step"
    tied = last.get_output_embeddings().weight is last.get_input_embeddings().weight
    assert tied == (name == "mistral-tied")
    assert all(tensor.dtype != torch.bfloat16 for tensor in average.mean.values()), "kept exactly"


@pytest.mark.parametrize("kind", ["uniform", "exponential"])
def test_the_mean_iterate_of_a_noisy_quadratic(kind):
    """SGD on h x^2 / 2 with noise s: x' = (1 - eta h) x - eta s e. The variance of the mean has a closed form.

    The iterates in equilibrium have covariance v q^|i-j|, with q = 1 - eta h and v = eta^2 s^2 / (1 - q^2).
    """
    torch.manual_seed(0)
    runs, last, eta, curvature, noise = 40_000, 6, 0.1, 1.0, 1.0
    q = 1 - eta * curvature
    variance = eta**2 * noise**2 / (1 - q**2)
    keys = Averaging(average=kind, average_every=10, average_last=last)
    model = torch.nn.Linear(runs, 1, bias=False, dtype=torch.float64)
    average = RunningAverage(steps := keys.steps(200), keys.newest)
    with torch.no_grad():
        model.weight.normal_(0, variance**0.5)
        for step in range(1, 201):
            model.weight.mul_(q).sub_(eta * noise * torch.randn(1, runs, dtype=torch.float64))
            average.on_step_end(None, SimpleNamespace(global_step=step), None, model=model)
    assert steps == [150, 160, 170, 180, 190, 200]
    weights = torch.full((last,), 1 / last) if kind == "uniform" else 0.2 * 0.8 ** torch.arange(last - 1, -1, -1.0)
    weights[0] *= 1 if kind == "uniform" else 5  # the first M begins the mean
    lags = 10 * (torch.arange(last)[:, None] - torch.arange(last)).abs()
    closed = float(weights @ (variance * q**lags) @ weights)
    average.put_into(model)
    assert model.weight.detach().var().item() == pytest.approx(closed, rel=5 * (2 / runs) ** 0.5)
    assert closed < 0.5 * variance


def state(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(("keys", "decay"), [(["average=uniform"], None), (["average=exponential"], 0.2)])
def test_a_run_gives_the_mean_of_its_checkpoints_and_the_last_weights(run, keys, decay, capsys):
    write_rows(run.folder / "heldout.jsonl", [{"text": "held out text"}])
    heldout = [f"heldout_data={run.folder}/heldout.jsonl", "heldout_steps=10"]
    assert main(STAGE, run.words(*SHORT, *keys, *heldout)) == 0
    out, facts = run.folder / "out", run.manifest()
    assert facts["averaged_steps"] == [12, 16, 20]
    mean = by_hand([state(out / f"checkpoint-{step}") for step in (12, 16, 20)], decay)
    for name, tensor in state(out).items():
        torch.testing.assert_close(tensor.double(), mean[name], rtol=1e-6, atol=1e-7)
    last, at_end = state(out / "last"), state(out / "checkpoint-20")
    assert all(torch.equal(last[name], at_end[name]) for name in last)
    assert any(not torch.equal(last[name], tensor) for name, tensor in state(out).items())
    *_, of_last, of_mean = run.log()
    assert of_last == {"step": 20, "heldout_loss": facts["last_heldout_loss"]}
    assert of_mean == {"step": 20, "average_heldout_loss": facts["heldout_loss"]}
    ids = torch.tensor([list(encode(["held out text"], byte_tokenizer())[0])])
    for folder, loss in ((out, of_mean["average_heldout_loss"]), (out / "last", of_last["heldout_loss"])):
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert model(input_ids=ids, labels=ids).loss.item() == pytest.approx(loss, rel=1e-5)
        assert (folder / "tokenizer.json").exists() and not (folder / "training_args.bin").exists()
    told = capsys.readouterr().out
    assert "averaged weights: held-out loss" in told and f"{out} has the averaged weights, {out}/last the last" in told
    assert not list(out.glob("checkpoint-8/average-*"))  # it begins with the first one that is needed


def test_averaging_changes_nothing_of_the_training(run):
    assert main(STAGE, run.words("max_tokens=1200")) == 0
    plain = run.weights()
    assert main(STAGE, run.words(*SHORT, "average=uniform", "resume=never")) == 0
    last = state(run.folder / "out/last")
    assert all(torch.equal(last[name], plain[name]) for name in plain)


def test_killed_runs_average_to_the_same_bytes(run):
    keys = ["max_tokens=4000", "save_steps=5", "logging_steps=7", "average_every=6", "average=exponential"]  # 67 steps
    assert main(STAGE, run.words(*keys)) == 0
    out, names = run.folder / "out", ("model.safetensors", "last/model.safetensors")
    expected, log = [(out / name).read_bytes() for name in names], run.log()
    assert run.manifest()["averaged_steps"] == [37, 43, 49, 55, 61, 67]
    shutil.rmtree(out)
    work = run.folder / ".out.partial"
    for step in (40, 55):
        said = kill_when(start(run, *keys), lambda step=step: (work / f"checkpoint-{step}").exists())
        assert work.exists() and not out.exists(), f"the run was to be killed half-way: {said}"
    assert list(work.glob("checkpoint-*/average-0.safetensors")), "killed between the averaged steps"
    assert main(STAGE, run.words(*keys)) == 0
    assert [(out / name).read_bytes() for name in names] == expected
    assert run.log() == log


def test_two_processes_average_as_one(run):
    keys = [*SHORT, "average=uniform"]
    code = (
        "import sys; from data_common.messages.errors import exit_code; from data_common.calls.launch import launch; "
    )
    code += "sys.exit(exit_code(lambda: launch('model_train.entry', sys.argv[1:])))"
    words = run.words(*keys, "gradient_accumulation_steps=1")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "NPROC": "2"}
    done = subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    two, last = run.weights(), state(run.folder / "out/last")
    shutil.rmtree(run.folder / "out")
    assert main(STAGE, run.words(*keys)) == 0
    for name, tensor in run.weights().items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-3, atol=1e-5)
    assert any(not torch.equal(two[name], last[name]) for name in last)


SHARDED = """
import sys
from pathlib import Path
from types import SimpleNamespace
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from model_train.averaging import RunningAverage
from model_train.settings import Averaging
from tests.models import byte_tokenizer, random_model

dist.init_process_group("gloo")
folder = Path(sys.argv[1])
model = random_model("mistral-tied", torch.float32)
mesh = dist.init_device_mesh("cpu", (2,))
for layer in model.model.layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
keys = Averaging(average="uniform", average_every=1, average_last=2)
average = RunningAverage([1, 2], keys.newest, None, sharded=True)
average.add(model, 1)
(folder / "checkpoint-1").mkdir(exist_ok=True)
average.on_save(SimpleNamespace(output_dir=str(folder)), SimpleNamespace(global_step=1), None)
with torch.no_grad():
    for weight in model.parameters():
        weight.mul_(3)
model.eval()(input_ids=torch.zeros(1, 4, dtype=torch.int64))  # leaves the root with whole weights
again = RunningAverage([1, 2], keys.newest, folder / "checkpoint-1", sharded=True)
again.on_train_begin(None, SimpleNamespace(global_step=1), None, model=model)
again.add(model, 2)
again.put_into(model)
ours = {name: weight.full_tensor() for name, weight in model.named_parameters()}
for name, weight in random_model("mistral-tied", torch.float32).named_parameters():
    torch.testing.assert_close(ours[name], 2 * weight)
assert sum(part.numel() for part in again.mean.values()) < 0.6 * sum(weight.numel() for weight in ours.values())
print("same")
dist.destroy_process_group()
"""


def test_sharded_weights_are_averaged_part_by_part(tmp_path):
    """FSDP of two processes, on the CPU: each keeps and saves half of the mean."""
    (tmp_path / "sharded.py").write_text(SHARDED)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command += [str(tmp_path / "sharded.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("same") == 2, done.stderr
    assert len(list(tmp_path.glob("checkpoint-1/average-[01].safetensors"))) == 2


def test_more_than_the_run_has_is_refused(run, capsys):
    assert main(STAGE, run.words("max_tokens=1200", "average=uniform", "average_every=4")) == 2
    assert "do not fit into a run of 20 steps" in capsys.readouterr().err
    assert main(STAGE, run.words("max_tokens=1260", "average=uniform", "average_every=4", "logging_steps=9")) == 0
    assert json.loads((run.folder / "out.manifest.json").read_text())["averaged_steps"] == [1, 5, 9, 13, 17, 21]
