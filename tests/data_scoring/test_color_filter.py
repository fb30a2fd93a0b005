"""CoLoR-Filter against transformers, row by row; by closed form with unigram models; its invariances."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from data_common.calls.cli import main
from data_scoring.entry import STAGE
from tests.data_scoring.brute_force import one_loss
from tests.models import byte_tokenizer, save_model

TEXTS = ["a plain text", "Zweiter Text: ä, ö, ü", "no", "the same words again and again " * 5]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "after")
    save_model(tmp_path / "before", seed=1)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return tmp_path


def scores(out, *keys):
    words = ["model=after", "prior_model=before", "max_length=64", "dtype=float64", *keys]
    words = [f"{key}={value}" for key, value in dict(word.split("=", 1) for word in words).items()]
    assert main(STAGE, ["in.jsonl", out, "color-filter", *words]) == 0
    with open(out) as file:
        return np.array([json.loads(line)["score"] for line in file])


def losses(folder, texts, window=64):
    """Summed nats of each row by transformers itself, and how many tokens were predicted; windows share a token."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    found = []
    for text in texts:
        ids = np.array([256, *byte_tokenizer()(text, add_special_tokens=False)["input_ids"]])
        parts = [ids[start : start + window] for start in range(0, len(ids) - 1, window - 1)]
        found.append((sum(one_loss(model, part).item() * (len(part) - 1) for part in parts), len(ids) - 1))
    return np.array(found).T


def test_against_transformers(here):
    (after, count), (before, _) = losses("after", TEXTS), losses("before", TEXTS)
    np.testing.assert_allclose(scores("mean.jsonl"), (before - after) / count, rtol=1e-9)
    np.testing.assert_allclose(scores("sum.jsonl", "reduction=sum"), before - after, rtol=1e-9)
    swapped = scores("swapped.jsonl", "model=before", "prior_model=after")
    np.testing.assert_allclose(swapped, -scores("mean.jsonl"), rtol=1e-9)
    assert scores("same.jsonl", "prior_model=after").tolist() == [0] * len(TEXTS)


def unigram(folder, probabilities):
    """A model whose every prediction is the same distribution: an output layer without input, with a bias."""
    save_model(folder, "gpt2")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.zero_()
        model.transformer.ln_f.bias[0] = 1
        model.transformer.wte.weight[:, 0] = torch.tensor(probabilities).log()
    model.save_pretrained(folder)


def test_unigram_models_in_closed_form(here):
    """The score is the sum over tokens of log p_after / p_before, as the weight of dsir with one bucket a token."""
    random = np.random.default_rng(0)
    p, q = (random.dirichlet(np.ones(258)).astype(np.float32) + 1e-6 for _ in range(2))
    unigram(here / "after", p)
    unigram(here / "before", q)
    ratio = np.log(p / p.sum()) - np.log(q / q.sum())
    wanted = [
        sum(ratio[one] for one in byte_tokenizer()(text, add_special_tokens=False)["input_ids"]) for text in TEXTS
    ]
    np.testing.assert_allclose(scores("out.jsonl", "reduction=sum"), wanted, rtol=1e-4)


def test_a_score_that_all_rows_share_is_told(here, capsys):
    scores("apart.jsonl")
    assert "the same score" not in capsys.readouterr().out
    assert not scores("twice.jsonl", "prior_model=after").any()
    warning = "warning: all rows have the same score: nothing can be selected or ordered by it"
    assert warning in capsys.readouterr().out
    assert warning in (here / "twice.jsonl.work/report.txt").read_text()


def test_mistakes(here, capsys):
    words = ["in.jsonl", "out.jsonl", "color-filter", "model=after", "max_length=64"]
    assert main(STAGE, words) == 2
    assert "prior_model is not set" in capsys.readouterr().err
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["the"])
    tokenizer.save_pretrained("before")
    model = AutoModelForCausalLM.from_pretrained("before")
    model.resize_token_embeddings(259)
    model.save_pretrained("before")
    assert main(STAGE, [*words, "prior_model=before"]) == 2
    assert "cut rows into other tokens" in capsys.readouterr().err
