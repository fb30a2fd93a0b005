"""The learning rate of each step against closed forms."""

import math

import pytest
import torch
from transformers import TrainingArguments

from data_common.calls.cli import main
from model_train.entry import STAGE
from model_train.settings import Schedule
from model_train.watched_trainer import WatchedTrainer

HIGHEST, WARMUP, STEPS = 0.02, 10, 110


def shape(keys, lowest):
    """Share of the way from the beginning of the fall to its end -> rate."""

    def r(x):
        return min(max(x, 0.0), 1.0)

    forms = {
        "cosine": lambda x: lowest + (HIGHEST - lowest) * (1 + math.cos(math.pi * r(x))) / 2,
        "linear": lambda x: HIGHEST + (lowest - HIGHEST) * r(x),
        "1-sqrt": lambda x: HIGHEST * (1 - math.sqrt(r(x))) + lowest * math.sqrt(r(x)),
    }
    return forms[keys.get("decay_shape") or (keys["scheduler"] if keys["scheduler"] in forms else "1-sqrt")]


def expected(step, keys):
    if step < WARMUP:
        return HIGHEST * step / WARMUP
    if keys["scheduler"] == "constant":
        return HIGHEST
    if keys["scheduler"] == "inverse-sqrt":
        return HIGHEST * math.sqrt(WARMUP / step)
    lowest = keys.get("min_learning_rate", HIGHEST / 10 if keys["scheduler"] == "cosine" else 0.0)
    length = round(keys.get("decay_share", 0.2) * STEPS) if keys["scheduler"] == "wsd" else STEPS - WARMUP
    return shape(keys, lowest)((step - (STEPS - length)) / length)


@pytest.mark.parametrize(
    "keys",
    [
        {"scheduler": "cosine"},
        {"scheduler": "cosine", "min_learning_rate": 0.0},
        {"scheduler": "linear"},
        {"scheduler": "linear", "min_learning_rate": 0.005},
        {"scheduler": "linear", "min_learning_rate": HIGHEST},
        {"scheduler": "constant"},
        {"scheduler": "inverse-sqrt"},
        {"scheduler": "wsd"},
        {"scheduler": "wsd", "min_learning_rate": HIGHEST / 3, "decay_shape": "1-sqrt", "decay_share": 0.5},
        {"scheduler": "wsd", "min_learning_rate": 0.001, "decay_shape": "linear", "decay_share": 0.1},
        {"scheduler": "wsd", "decay_shape": "cosine", "decay_share": 0.9},
    ],
    ids=str,
)
def test_the_rate_of_each_step_is_that_of_the_closed_form(keys, tmp_path):
    schedule = Schedule(**keys)
    model = torch.nn.Linear(1, 1)
    words = {"output_dir": str(tmp_path), "learning_rate": HIGHEST, "warmup_steps": WARMUP, "use_cpu": True}
    trainer = WatchedTrainer(model, TrainingArguments(**words, **schedule.arguments(HIGHEST)))
    trainer.schedule, trainer.optimizer = schedule, torch.optim.SGD(model.parameters(), lr=HIGHEST)
    scheduler = trainer.create_scheduler(STEPS)
    rates = []
    for _ in range(STEPS + 1):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([expected(step, keys) for step in range(STEPS + 1)], rel=1e-12, abs=1e-16)


def test_a_run_takes_the_rates(run):
    keys = ["scheduler=wsd", "min_learning_rate=0.004", "decay_share=0.5", "max_tokens=1200"]
    assert main(STAGE, run.words(*keys)) == 0
    rates, steps = [entry["learning_rate"] for entry in run.log()], 20
    fall = [math.sqrt(max(0, step - 10) / 10) for step in range(steps)]
    by_hand = [0.01 * min(1, step / 2) if step < 2 else 0.01 * (1 - r) + 0.004 * r for step, r in enumerate(fall)]
    assert rates == pytest.approx(by_hand)


def test_a_decay_that_does_not_fit_is_refused(run, capsys):
    assert main(STAGE, run.words("scheduler=wsd", "decay_share=0.95", "max_tokens=1200")) == 2
    assert "the warm-up of 2 steps and the decay of 19 are longer than the run of 20" in capsys.readouterr().err
