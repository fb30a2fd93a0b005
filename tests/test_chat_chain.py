"""A chain on conversations from end to end: score the answers, select, order, posttrain in that order, evaluate."""

import json

import pytest
import yaml

from data_common.calls.cli import main
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from model_eval.entry import STAGE as EVALUATION
from model_train.entry import STAGE as TRAINING
from tests.models import byte_tokenizer, save_model

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model")
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [
        {"id": n, "conversations": [{"from": "human", "value": f"count to {n}"}, {"from": "gpt", "value": "1 " * n}]}
        for n in range(1, 9)
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def read(path):
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def test_score_select_order_posttrain_evaluate(here):
    template = ["text_format=template", "chat_template=model"]
    usual = ["model=model", "max_length=64", "device=cpu"]
    words = ["in.jsonl", "scored.jsonl", "perplexity", *usual, *template, "score_tokens=answer", "metric=nll"]
    assert main(SCORING, words) == 0
    assert main(SELECTION, ["scored.jsonl", "chosen.jsonl", "top-r", "r=0.5"]) == 0
    assert main(ORDERING, ["chosen.jsonl", "ordered.jsonl", "sorting"]) == 0
    scored = sorted(read(here / "scored.jsonl"), key=lambda row: row["score"])
    assert read(here / "ordered.jsonl") == scored[:4]  # the lowest losses, which the manifest calls better
    keys = ["max_length=64", "epochs=1", "batch_size=1", "gradient_accumulation_steps=1", "logging_steps=1"]
    assert main(TRAINING, ["ordered.jsonl", "model", "out", "posttrain", *keys, "learning_rate=0.01"]) == 0
    log = read(here / "out/train_log.jsonl")
    assert [entry["score"] for entry in log] == [row["score"] for row in scored[:4]]
    answers = [len(row["conversations"][1]["value"]) + 1 for row in scored[:4]]
    assert log[-1]["tokens"] == sum(answers)
    assert log[0]["loss"] == pytest.approx(scored[0]["score"], abs=1e-4)  # the scorer reads what training learns
    losses = []
    for model in ("model", "out"):
        words = [model, f"{model}.yaml", "perplexity", "data=in.jsonl", "max_length=64", "device=cpu", *template]
        assert main(EVALUATION, words) == 0
        losses.append(yaml.safe_load((here / f"{model}.yaml").read_text())["tasks"]["in"]["loss"])
    assert losses[1] < losses[0]
