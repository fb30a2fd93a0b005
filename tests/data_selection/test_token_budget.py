"""The budget against a walk over the ranked rows; where the counts come from."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_common.calls.cli import main
from data_selection.entry import STAGE
from data_selection.token_budget.method import select
from tests.models import save_model


def test_literals():
    score, tokens = np.array([1.0, 4, 3, 4, 2]), np.array([1, 5, 3, 2, 9])
    assert select(score, tokens, tokens=7).tolist() == [1, 3]  # 5 + 2 is the budget; then 3 would cross it
    assert select(score, tokens, tokens=9).tolist() == [1, 3]
    assert select(score, tokens, tokens=10).tolist() == [1, 3, 2]
    assert select(score, tokens, tokens=1).tolist() == [1]  # at least one, though it has 5 tokens
    assert select(score, tokens, tokens=99).tolist() == [1, 3, 2, 4, 0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5))), st.integers(1, 40))
def test_against_a_walk(rows, budget):
    left, expected = budget, []
    for row in sorted(range(len(rows)), key=lambda i: -rows[i][0]):
        left -= rows[row][1]
        if left < 0 and expected:
            break
        expected.append(row)
        if left < 0:
            break
    columns = np.array(rows, float).reshape(-1, 2).T
    assert select(*columns, tokens=budget).tolist() == expected


def kept(tmp_path, rows, *keys, expected=0):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "token-budget", "direction=higher", *keys]
    assert main(STAGE, words) == expected
    lines = (tmp_path / "out.jsonl").read_text().split("\n")[:-1] if not expected else []
    return [json.loads(line)["score"] for line in lines]


ROWS = [{"score": score, "text": "x" * 9, "meta": {"tokens": score}} for score in (1, 2, 3, 4)]


def test_counts_of_a_field_of_characters_and_of_a_tokenizer(tmp_path, capsys):
    assert kept(tmp_path, ROWS, "tokens=7", "tokens_field=meta.tokens") == [3, 4]
    assert "characters" not in capsys.readouterr().out
    assert kept(tmp_path, ROWS, "tokens=8") == [3, 4]  # 9 characters are 3 tokens
    assert "tokens: characters / 4, rounded up" in capsys.readouterr().out
    assert kept(tmp_path, ROWS, "tokens=9") == [2, 3, 4]


def test_a_tokenizer_counts_as_training_does(tmp_path):
    from data_common.models.loading import load_tokenizer
    from data_common.models.tokens import encode

    model = save_model(tmp_path / "model")
    texts = ["one two", "", "a much longer text than the others", "three"]
    rows = [{"score": number, "title": text, "body": ["x", "y"]} for number, text in enumerate(texts)]
    counts = [len(ids) for ids in encode([f"{text}\nx\ny" for text in texts], load_tokenizer(model))]
    fields = ("text_field=[title, body]", f"tokenizer={model}")
    assert kept(tmp_path, rows, f"tokens={sum(counts[1:])}", *fields) == [1, 2, 3]
    assert kept(tmp_path, rows, f"tokens={sum(counts[1:]) - 1}", *fields) == [2, 3]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["tokens_field=t", "tokenizer=x"], "set one of them"),
        (["tokens_field=t"], "in.jsonl:2: t is negative"),
        (["tokens_field=u"], "in.jsonl:1: u is missing"),
        (["tokenizer=./nowhere"], "no model folder ./nowhere"),
        (["text_field=t"], "in.jsonl:1: t is a number, not text"),
        (["tokens_field=text"], "in.jsonl:1: text is a string, not a number"),
        (["tokens=0"], "tokens: 0 is not valid"),
    ],
)
def test_mistakes(tmp_path, capsys, keys, message):
    kept(tmp_path, [{"score": 1, "t": 1, "text": "a"}, {"score": 2, "t": -1, "text": "a"}], *keys, expected=2)
    assert message in capsys.readouterr().err


def test_other_methods_have_no_token_keys(capsys):
    assert main(STAGE, ["a", "b", "top-r", "tokens_field=t"]) == 2
    assert "unknown key 'tokens_field'" in capsys.readouterr().err
