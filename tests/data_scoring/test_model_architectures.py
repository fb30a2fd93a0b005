"""Architectures that read their input in many ways: log-likelihoods, per-sample gradients and scores as transformers
computes them for each row alone; rows that hold special tokens; whatever stands beside a row."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tqdm import tqdm

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_common.models import loading, settings
from data_common.models.likelihood import TokenLogProbabilities, document_log_probabilities
from data_common.models.settings import settle
from data_common.models.tokens import TokenStore
from data_common.models.traits import traits
from data_scoring.engines.influence.per_sample_gradients import PerSampleGradients
from data_scoring.engines.influence.trajectory import annotate
from data_scoring.entry import STAGE as SCORING
from model_eval.entry import STAGE as EVALUATION
from tests.architectures import ARCHITECTURES, SEES_LATER, config_of, plain_model
from tests.data_scoring.brute_force import brute_force, flat_gradient, gamma, one_loss, parameters, scorer
from tests.models import VOCABULARY, byte_tokenizer

LENGTHS = np.array([5, 30, 9, 12, 40, 12, 3])
SPECIAL = {7: 257, 12: 256, 50: 1, 60: 0, 90: 257}  # place -> token: some model's padding, BOS, EOS, inside rows
ONLY_FLOAT32 = ("xglm",)  # transformers itself fails with others
SLOW = ("mamba", "mamba2", "falcon_mamba", "jetmoe", "recurrent_gemma", "lfm2", "qwen3_next")
SLOW += ("bert", "bert, in chunks", "roberta", "camembert")


def rows() -> TokenStore:
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, LENGTHS.sum())
    tokens[list(SPECIAL)] = list(SPECIAL.values())
    return TokenStore(tokens, np.cumsum(LENGTHS) - LENGTHS, LENGTHS)


def two_of(name):
    """(the oracle, the model as the project makes it, relative tolerance)."""
    dtype = torch.float32 if name in ONLY_FLOAT32 else torch.float64
    oracle = plain_model(name, dtype)
    model = loading.random_model(config_of(name), 0, attn_implementation="sdpa").to(dtype).eval()
    model.load_state_dict(oracle.state_dict())
    settle(model)
    return oracle, model, 1e-3 if dtype == torch.float32 else 1e-5  # norms are float32 at heart


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_log_likelihoods_are_those_of_each_row_alone(name):
    oracle, model, tolerance = two_of(name)
    store = rows()
    traits(model, 64)
    wanted = [one_loss(oracle, document).item() for document in store]
    for order in (np.arange(len(store)), np.arange(len(store))[::-1]):
        with tqdm(disable=True) as progress:
            found = document_log_probabilities(TokenLogProbabilities(model), store.take(order), 64, 100, progress)
        ends = np.cumsum(LENGTHS[order] - 1)
        means = [-found[end - length + 1 : end].mean() for end, length in zip(ends, LENGTHS[order], strict=True)]
        np.testing.assert_allclose(means, np.array(wanted)[order], rtol=tolerance)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_are_those_of_each_row_alone(name, capsys):
    oracle, model, tolerance = two_of(name)
    store = rows()
    traits(model, 64)
    direction = [torch.randn_like(parameter) for parameter in parameters(oracle)]
    flat = torch.cat([part.flatten() for part in direction]).double()
    gradients = [flat_gradient(oracle, one_loss(oracle, document)).double() for document in store]
    wanted = np.array([(gradient @ flat).item() for gradient in gradients])
    norms = np.array([gradient.norm().item() for gradient in gradients])
    reader = PerSampleGradients(model, [store[0], store[6]])
    assert ("read one sample at a time" in capsys.readouterr().out) == (name in SLOW)
    for batch_tokens in (100, 10**6):
        found = annotate(reader, store, direction, batch_tokens, "annotating")
        np.testing.assert_allclose(found[0], wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())
        np.testing.assert_allclose(found[1], norms, rtol=tolerance)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_lqs_equals_brute_force(name):
    oracle, model, tolerance = two_of(name)
    store = rows()
    corpus, target = store.take(np.array([0, 2, 3, 6, 1])), store.take(np.array([5, 2]))
    traits(model, 64)
    expected, _ = brute_force(oracle, corpus, target, 2, 2, 1, 1)
    actual = gamma(scorer(steps=2), model, corpus, target)
    np.testing.assert_allclose(actual, expected, rtol=10 * tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", SEES_LATER)
def test_a_model_that_sees_later_tokens_is_refused(name):
    with pytest.raises(UserError, match="sees later tokens"):
        traits(plain_model(name, torch.float32))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """IN and a target, and a function that saves a model with its tokenizer."""
    monkeypatch.chdir(tmp_path)
    for name, texts in (("in", ["A short row.", "A row that is a little longer."]), ("target", ["A target."])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    def save(name):
        plain_model(name, torch.float32).save_pretrained("model")
        byte_tokenizer().save_pretrained("model")

    return save


LQS = ["lqs", "annotator_model=model", "target_data=target.jsonl", "steps=2", "interval=1"]


@pytest.mark.parametrize("words", [LQS, ["perplexity", "model=model"], ["min-k", "model=model"]], ids=lambda w: w[0])
def test_stages_refuse_a_model_that_sees_later_tokens(folder, capsys, words):
    folder("bert, an encoder")
    assert main(SCORING, ["in.jsonl", "out.jsonl", *words, "max_length=40"]) == 2
    assert "sees later tokens" in capsys.readouterr().err and not Path("out.jsonl").exists()
    assert main(EVALUATION, ["model", "r.yaml", "perplexity", "data=in.jsonl", "max_length=40"]) == 2
    assert "sees later tokens" in capsys.readouterr().err


def test_stages_tell_that_attention_is_eager(folder, capsys):
    folder("gemma2")
    settings.tell_once.cache_clear()
    words = ["perplexity", "model=model", "metric=nll", "max_length=40", "dtype=float64"]
    assert main(SCORING, ["in.jsonl", "out.jsonl", *words]) == 0
    assert "Gemma2ForCausalLM has no attention of kind sdpa: attention=eager is taken" in capsys.readouterr().out
    assert main(SCORING, ["in.jsonl", "asked.jsonl", *words, "attention=eager"]) == 0
    assert "is taken" not in capsys.readouterr().out
    scores = [json.loads(line)["score"] for line in Path("out.jsonl").read_text().split("\n")[:-1]]
    assert scores == [json.loads(line)["score"] for line in Path("asked.jsonl").read_text().split("\n")[:-1]]
    oracle = plain_model("gemma2", torch.float32).double()
    rows = [[256, *byte_tokenizer()(row, add_special_tokens=False)["input_ids"]] for row in ("A short row.",)]
    assert scores[0] == pytest.approx(one_loss(oracle, np.array(rows[0])).item(), rel=1e-5)
