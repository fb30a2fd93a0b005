"""Rows of other formats in a call of posttrain: named, mapped, refused by place before a model is loaded."""

import pytest

from data_common.calls.cli import main
from model_train.entry import STAGE
from tests.model_train.conftest import write_rows

ALPACA = {"instruction": "say", "input": "it", "output": "abc"}
CHAT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "abc"}] * 2


def post(run, *extra):
    keys = ["max_length=64", "epochs=1", "batch_size=1", "gradient_accumulation_steps=1", "warmup_steps=0"]
    return main(STAGE, run.words(*keys, *extra, method="posttrain"))


@pytest.fixture
def no_model(monkeypatch):
    """Fails where weights are loaded."""

    def load(*_, **__):
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("model_train.run.load_for_training", load)


def test_the_format_is_told_and_the_same_tokens_are_learned_as_of_messages(run, capsys):
    write_rows(run.folder / "in.jsonl", [ALPACA])
    assert post(run) == 0
    assert "posttrain: format alpaca, rows 1" in capsys.readouterr().out
    assert run.manifest()["format"] == "alpaca" and run.manifest()["trained_tokens"] == 4
    losses = [entry.get("loss") for entry in run.log()]
    write_rows(run.folder / "in.jsonl", [{"question": "say\n\nit", "answer": "abc"}])
    assert post(run, "fields={prompt: question, response: answer}", "resume=never") == 0
    assert run.manifest()["format"] == "prompt"
    assert [entry.get("loss") for entry in run.log()] == losses


def test_all_answers_are_learned_or_the_last(run):
    write_rows(run.folder / "in.jsonl", [{"conversations": CHAT}])
    for words, tokens in (([], 8), (["learn=last", "resume=never"], 4)):
        assert post(run, *words) == 0
        assert run.manifest()["trained_tokens"] == tokens


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"conversations": CHAT}, "the row is sharegpt (conversations), but the first one ("),
        ({"instruction": "say", "output": None}, "output is null"),
        (ALPACA | {"image": "x.png"}, "image is not read here (ignored_fields=[image] leaves it out)"),
    ],
)
def test_a_bad_row_far_behind_is_told_before_a_model_is_loaded(run, capsys, no_model, bad, message):
    write_rows(run.folder / "in.jsonl", [*[ALPACA] * 150, bad])
    assert post(run) == 2
    assert f"in.jsonl:151: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["form=prompt", "format=alpaca"], "form=prompt is the older name of format=alpaca: leave out one of them"),
        (["format=dolly"], "in.jsonl:1: response is missing"),
        (["format=alpacca"], "format: alpacca is not valid"),
        (["fields={promt: q}"], "fields: promt is a field of no format; did you mean 'prompt'?"),
        (["form=prompt"], "in.jsonl:1: prompt is missing"),
    ],
)
def test_keys_that_do_not_fit(run, capsys, no_model, words, message):
    write_rows(run.folder / "in.jsonl", [ALPACA])
    assert post(run, *words) == 2
    assert message in capsys.readouterr().err
