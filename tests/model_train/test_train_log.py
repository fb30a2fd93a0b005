"""What a run tells: log, curve, scores of the rows in a step, held-out loss, trackers, and where a NaN came from."""

import importlib.util
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.models.tokens import encode
from model_train.entry import STAGE
from model_train.figure import draw
from model_train.train_log import describe
from tests.model_train.conftest import ROWS, write_rows
from tests.models import byte_tokenizer


def test_the_log_tells_tokens_and_the_mean_score_of_the_rows_of_each_step(run, capsys):
    assert main(STAGE, run.words("epochs=1")) == 0
    documents = encode([row["text"] for row in ROWS], byte_tokenizer())
    scores = np.concatenate([[row["score"]] * len(ids) for row, ids in zip(ROWS, documents, strict=True)])[1:]
    step = 15 * 4  # predicted tokens of four blocks of 16
    log = run.log()
    assert len(log) == math.ceil(len(scores) / step)
    for number, entry in enumerate(log):
        mine = scores[number * step : (number + 1) * step]
        assert entry["step"] == number + 1 and entry["tokens"] == number * step + len(mine)
        assert entry["score"] == pytest.approx(mine.mean())
        assert entry.keys() == {"step", "tokens", "loss", "learning_rate", "grad_norm", "score"}
    said = capsys.readouterr().out
    assert f"step 1 of {len(log)}: loss " in said and " tok/s, " in said and " left" in said and "score " in said
    picture = (run.folder / "out/progress.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and (run.folder / "out/curve.png").read_bytes() == picture


def test_the_figure_places_everything_at_its_tokens(run, monkeypatch):
    """Rows of unequal lengths, one a sequence: a log of every step tells what one of every seventh has to find."""
    keys = ["packing=none", "max_tokens=900", "save_steps=100", "heldout_steps=4", "average=uniform", "average_last=3"]
    write_rows(run.folder / "heldout.jsonl", ROWS[:2])
    keys += ["average_every=5", f"heldout_data={run.folder}/heldout.jsonl"]
    assert main(STAGE, run.words(*keys, "average=none", "average_last=null", "average_every=null")) == 0
    tokens = {entry["step"]: entry["tokens"] for entry in run.log() if "tokens" in entry}
    drawn = []
    monkeypatch.setattr("model_train.figure.draw", lambda path, *what: (drawn.extend(what), path.touch()))
    assert main(STAGE, run.words(*keys, "logging_steps=7", "resume=never")) == 0
    entries, averaged = drawn
    assert [entry["tokens"] for entry in entries] == [tokens[entry["step"]] for entry in entries]
    assert averaged == [tokens[step] for step in run.manifest()["averaged_steps"]]
    assert len({tokens[step + 1] - tokens[step] for step in range(1, len(tokens))}) > 3, "the steps are unequal"
    kinds = [name for entry in entries for name in ("loss", "heldout_loss", "average_heldout_loss") if name in entry]
    assert {name: kinds.count(name) for name in kinds} == {
        "loss": -(-len(tokens) // 7),
        "heldout_loss": -(-len(tokens) // 4),
        "average_heldout_loss": 1,
    }


def test_the_panels_of_the_figure(monkeypatch, tmp_path):
    """Steps of 40, then of 100 tokens, every second one logged; the score is of the last ones only."""
    steps = [{"step": 2 * n, "tokens": 80 * n, "loss": 9.0 - n, "learning_rate": 0.1} for n in (1, 2, 3)]
    steps += [{"step": 8, "tokens": 440, "loss": 5.0, "learning_rate": 0.05, "score": 2.0}]
    heldout = [{"step": 8, "tokens": 440, "heldout_loss": 5.5}, {"step": 8, "tokens": 440, "average_heldout_loss": 4.5}]
    sheets = []
    monkeypatch.setattr("model_train.figure.save_figure", lambda path, sheet: sheets.append(sheet))
    draw(tmp_path / "a.png", [*steps, *heldout], [240, 440])
    draw(tmp_path / "b.png", steps[:1], [])
    first, second = ({axes.get_ylabel(): axes for axes in sheet.axes} for sheet in sheets)
    assert list(first) == ["score", "learning rate", "tokens a step", "loss (nats)"]
    assert list(second) == ["learning rate", "tokens a step", "loss (nats)"]
    [stairs] = first["tokens a step"].patches
    assert stairs.get_data().values.tolist() == [40, 40, 40, 100]
    assert stairs.get_data().edges.tolist() == [0, 80, 160, 240, 440]
    lines = {line.get_label(): line.get_xydata().tolist() for line in first["loss (nats)"].lines}
    assert lines["training"] == [[80, 8], [160, 7], [240, 6], [440, 5]]
    assert lines["held out"] == [[440, 5.5]] and lines["held out, averaged weights"] == [[440, 4.5]]
    for axes in first.values():
        assert [x for line in axes.lines if line.get_linestyle() == ":" for x in set(line.get_xdata())] == [240, 440]
    assert second["loss (nats)"].get_legend() is None and len(second["loss (nats)"].lines) == 1


def test_an_entry_in_words():
    entry = {"step": 2000, "loss": 2.5, "learning_rate": 1e-4, "tokens": 4096, "tokens_per_second": 1234.5}
    assert (
        describe(entry, 3000, 90)
        == "  step 2,000 of 3,000: loss 2.5000, lr 1.00e-04, 4,096 tokens, 1,234 tok/s, 01:30 left"
    )
    assert describe({"step": 10, "heldout_loss": 3.0}, 3000, 1) == "  step 10 of 3,000: held-out loss 3.0000"


@pytest.mark.parametrize(
    ("rows", "extra", "shown"),
    [
        ([{"text": "a"}, {"text": "b", "score": 1}], [], False),
        ([{"text": "a", "score": 1}], ["score_field=null"], False),
        ([{"text": "a", "meta": {"quality": 2}}], ["score_field=meta.quality"], True),
    ],
)
def test_scores_are_shown_where_the_file_has_them(run, rows, extra, shown):
    write_rows(run.folder / "in.jsonl", rows)
    assert main(STAGE, run.words(*extra)) == 0
    assert ("score" in run.log()[0]) is shown


def test_a_row_without_score_is_bad_where_the_first_has_one(run, capsys):
    write_rows(run.folder / "in.jsonl", [{"text": "a", "score": 1}, {"text": "b"}, {"text": "c", "score": 3}])
    assert main(STAGE, run.words()) == 2
    assert "in.jsonl:2: score is missing" in capsys.readouterr().err
    assert main(STAGE, run.words("on_bad_row=drop")) == 0
    assert run.log()[0]["score"] == pytest.approx((2 * 1 + 3 * 3) / 5)  # the first token is not predicted


def test_scores_behind_max_rows_do_not_matter(run):
    rows = [{"text": "abc", "score": number} for number in range(4)]
    write_rows(run.folder / "in.jsonl", [*rows, {"text": "abc", "score": None}])
    assert main(STAGE, run.words("max_rows=4")) == 0
    assert run.log()[0]["score"] == pytest.approx(5 * (1 + 2 + 3) / 19)  # the first token is not predicted


def test_held_out_loss_is_the_mean_over_its_tokens(run):
    texts = ["held out", "a longer text that is held out " * 3, "x"]
    write_rows(run.folder / "heldout.jsonl", [{"text": text} for text in texts])
    held_out = [f"heldout_data={run.folder}/heldout.jsonl", "heldout_steps=4", "packing=none", "max_tokens=400"]
    assert main(STAGE, run.words(*held_out)) == 0
    entries = [entry for entry in run.log() if "heldout_loss" in entry]
    steps = run.manifest()["optimizer_steps"]
    assert [entry["step"] for entry in entries] == sorted({*range(4, steps, 4), steps})
    model = AutoModelForCausalLM.from_pretrained(run.folder / "out")
    losses = []
    for ids in encode(texts, byte_tokenizer()):
        ids = torch.tensor(ids[:16])
        losses.append(torch.nn.functional.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="none"))
    assert entries[-1]["heldout_loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    assert run.manifest()["heldout_loss"] == entries[-1]["heldout_loss"]


def test_nan_stops_with_the_step_and_its_rows(run, capsys, monkeypatch):
    """The loss of step 3 becomes NaN; the log, of every tenth step, would be too late to tell."""
    training_step = Trainer.training_step

    def spoil(self, *arguments):
        loss = training_step(self, *arguments)
        return loss * float("nan") if self.state.global_step == 2 else loss

    monkeypatch.setattr(Trainer, "training_step", spoil)
    assert main(STAGE, run.words("packing=none", "logging_steps=10")) == 2
    error = capsys.readouterr().err
    assert "no number at step 3: look at its rows, " in error
    assert "in.jsonl:9 to " in error and "in.jsonl:12, or lower learning_rate" in error
    assert not (run.folder / "out").exists()


@pytest.mark.parametrize("tracker", ["wandb", "tensorboard", "trackio"])
def test_trackers_work_without_network(run, tracker):
    """In a process of its own: a tracker remembers its folder."""
    if importlib.util.find_spec(tracker) is None:
        pytest.skip(f"{tracker} is not installed")
    folders = {"WANDB_MODE": "offline", "WANDB_DIR": str(run.folder), "TRACKIO_DIR": str(run.folder)}
    environment = os.environ | folders | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])}
    words = run.words("max_tokens=100", f"report_to={tracker}", "project=mine")
    command = [sys.executable, "-m", "model_train.entry", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = [str(path) for path in run.folder.rglob("*") if path.is_file()]
    name = {"wandb": "offline-run", "tensorboard": "out/tensorboard", "trackio": "mine"}[tracker]
    assert any(name in path for path in written), written


@pytest.mark.parametrize(
    ("tracker", "message"),
    [("wandbb", "did you mean 'wandb'?"), ("comet_ml", "report_to=comet_ml: it is not installed")],
)
def test_a_tracker_that_is_not_there(run, capsys, tracker, message):
    assert main(STAGE, run.words(f"report_to={tracker}")) == 2
    assert message in capsys.readouterr().err


def test_log_entries_are_json(run):
    assert main(STAGE, run.words("max_tokens=100")) == 0
    lines = (run.folder / "out/train_log.jsonl").read_text().split("\n")[:-1]
    assert all(json.loads(line)["tokens_per_second"] > 0 for line in lines)


@pytest.mark.parametrize(
    ("warmup", "told"), [(2000, True), (3, True), (0.5, True), (2, False), (0.1, False), (0.01, False), (0, False)]
)
def test_a_long_warmup_is_told_and_the_highest_rate(run, capsys, warmup, told):
    keys = ["max_tokens=1260", "learning_rate=0.01", f"warmup_steps={warmup}", "scheduler=linear"]
    assert main(STAGE, run.words(*keys, "min_learning_rate=null")) == 0
    rates = [entry["learning_rate"] for entry in run.log()]  # of all steps
    assert len(rates) == run.manifest()["optimizer_steps"] == 21
    assert run.manifest()["highest_learning_rate"] == pytest.approx(max(rates))
    out = capsys.readouterr().out
    assert ("note: the warm-up of " in out) == told
    assert f"highest learning rate {max(rates):.4g}" in out


def test_checkpoints_are_models_to_use(run):
    """The Trainer switches the cache of keys and values off, which generation needs."""
    assert main(STAGE, run.words("max_tokens=300", "save_steps=2")) == 0
    saved = [*run.folder.glob("out/checkpoint-*/config.json"), run.folder / "out/config.json"]
    assert len(saved) == 4
    assert all(json.loads(path.read_text())["use_cache"] for path in saved)
