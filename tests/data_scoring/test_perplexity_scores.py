"""The method perplexity as a user calls it: closed forms, plain transformers calls, windows, resuming, processes."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.files.manifest import read_manifest
from data_scoring.engines import likelihood
from data_scoring.entry import STAGE
from tests.model_eval.direct import perplexity as evaluate
from tests.models import VOCABULARY, byte_tokenizer, save_model

TEXTS = ["a plain text", "Zweiter Text: ä, ö, ü, 漢字", "no", "the same words again and again " * 5, "x" * 64]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


def write(path, texts=TEXTS):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def call(folder, model, *keys, name="perplexity", texts=TEXTS):
    """The rows that are written."""
    words = [write(folder / "in.jsonl", texts), str(folder / "out.jsonl"), name]
    assert main(STAGE, [*words, *with_usual(keys, f"model={model}", "max_length=64")]) == 0
    return rows_of(folder / "out.jsonl")


def with_usual(keys, *usual):
    """`keys`, and before them those of `usual` that are not among them."""
    given = {key.split("=")[0] for key in keys}
    return [*(key for key in usual if key.split("=")[0] not in given), *keys]


def rows_of(path):
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def column(rows, field="score"):
    return np.array([row[field] for row in rows])


def nats(model, text, max_length=64, stride=64, bos=True):
    """-log p of each predicted token, by one plain call for each."""
    network, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    ids = [tokenizer.bos_token_id] * bos + tokenizer.encode(text, add_special_tokens=False)
    found = []
    for position in range(1, len(ids)):
        first = 0
        while position >= first + max_length:
            first += min(stride, max_length - 1)
        with torch.no_grad():
            logits = network(torch.tensor([ids[first:position]])).logits[0, -1]
        found.append(-torch.log_softmax(logits.double(), 0)[ids[position]].item())
    return found


def test_a_uniform_model_has_the_vocabulary_as_perplexity(tmp_path):
    folder = save_model(tmp_path / "zero", "llama-untied")
    network = AutoModelForCausalLM.from_pretrained(folder)
    network.lm_head.weight.data.zero_()
    network.save_pretrained(folder)
    rows = call(tmp_path, folder, "extra_metrics=[nll, bpb]")
    np.testing.assert_allclose(column(rows), VOCABULARY, rtol=1e-6)
    np.testing.assert_allclose(column(rows, "nll"), math.log(VOCABULARY), rtol=1e-6)
    np.testing.assert_allclose(column(rows, "bpb"), math.log2(VOCABULARY), rtol=1e-6)  # a token is a byte


@pytest.mark.parametrize("keys", [(), ("stride=64",), ("stride=20",), ("max_length=16", "stride=5", "batch_tokens=50")])
def test_scores_equal_plain_calls(tmp_path, model, keys):
    rows = call(tmp_path, model, "metric=nll", "extra_metrics=[ppl, bpb]", *keys)
    windows = {key: int(value) for key, value in (word.split("=") for word in keys) if key != "batch_tokens"}
    expected = [nats(model, text, **windows) for text in TEXTS]
    means = np.array([np.mean(values) for values in expected])
    np.testing.assert_allclose(column(rows), means, rtol=1e-5)
    np.testing.assert_allclose(column(rows, "ppl"), np.exp(means), rtol=1e-4)
    sizes = [len(text.encode()) for text in TEXTS]
    bits = [sum(values) / math.log(2) / size for values, size in zip(expected, sizes, strict=True)]
    np.testing.assert_allclose(column(rows, "bpb"), bits, rtol=1e-5)
    manifest = read_manifest(tmp_path / "out.jsonl")
    assert manifest["directions"] == {"score": "lower", "ppl": "lower", "bpb": "lower"}
    assert manifest["extra"].keys() == {"ppl", "bpb"}
    assert manifest["facts"]["model"] == {"tokens": sum(map(len, expected)), "dtype": "float32"}


def test_without_bos_the_first_token_is_context_and_bits_are_those_of_the_other_tokens(tmp_path):
    folder = save_model(tmp_path / "model")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer().backend_tokenizer, eos_token="</s>")
    tokenizer.save_pretrained(folder)
    rows = call(tmp_path, folder, "metric=bpb", "on_short=drop", texts=[*TEXTS, "y"])
    assert [row["text"] for row in rows] == TEXTS  # one token alone has nothing to be predicted from
    expected = [np.mean(nats(folder, text, bos=False)) / math.log(2) for text in TEXTS]
    np.testing.assert_allclose(column(rows), expected, rtol=1e-5)
    assert column(call(tmp_path, folder, "on_short=worst", texts=[*TEXTS, "y", " "])).argmax() in (0, 1, 2, 3, 4)


def test_batches_change_nothing_but_rounding(tmp_path, model):
    results = [column(call(tmp_path, model, f"batch_tokens={tokens}", "dtype=float64")) for tokens in (1, 100, 10**6)]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-7)  # stored in float64, computed in float64


def test_the_mean_over_the_corpus_is_what_model_eval_finds(tmp_path, model):
    rows = call(tmp_path, model, "metric=nll")
    tokens = np.array([len(text.encode()) for text in TEXTS])
    expected = evaluate(model, data=str(tmp_path / "in.jsonl"), max_length=64)["in"]
    assert expected["tokens"] == tokens.sum()
    assert column(rows) @ tokens / tokens.sum() == pytest.approx(expected["loss"], rel=1e-6)


def test_another_metric_takes_what_was_computed(tmp_path, model, capsys):
    nll = column(call(tmp_path, model, "metric=nll"))
    capsys.readouterr()
    ppl = column(call(tmp_path, model, "metric=ppl"))
    assert "score: up to date" in capsys.readouterr().out
    np.testing.assert_array_equal(ppl, np.exp(nll))
    call(tmp_path, model, "stride=9")
    assert "score: made again, stride was 64, is 9" in capsys.readouterr().out


def test_a_killed_run_is_gone_on_with(tmp_path, model, monkeypatch, capsys):
    monkeypatch.setattr(likelihood, "PART", 40)
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    call(tmp_path / "whole", model)
    computed, real = [], likelihood.document_log_probabilities

    def dying(network, documents, *args, **keys):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(len(documents))
        return real(network, documents, *args, **keys)

    monkeypatch.setattr(likelihood, "document_log_probabilities", dying)
    words = [write(tmp_path / "killed/in.jsonl"), str(tmp_path / "killed/out.jsonl"), "perplexity", f"model={model}"]
    assert main(STAGE, [*words, "max_length=64"]) == 130
    parts = list((tmp_path / "killed/out.jsonl.work/score").glob("part-*"))
    assert len(parts) == 2 and not (tmp_path / "killed/out.jsonl").exists()
    monkeypatch.setattr(likelihood, "document_log_probabilities", real)
    call(tmp_path / "killed", model)
    assert "going on with what an interrupted run left" in capsys.readouterr().out
    assert (tmp_path / "killed/out.jsonl").read_bytes() == (tmp_path / "whole/out.jsonl").read_bytes()


def test_two_processes_give_the_same_bytes(tmp_path, model):
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("abcdef "), size)) + "." for size in random.integers(20, 400, 1400)]
    call(tmp_path, model, texts=texts)
    two = tmp_path / "two.jsonl"
    words = [str(tmp_path / "in.jsonl"), str(two), "perplexity", f"model={model}", "max_length=64"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "NPROC": "2"}
    command = [sys.executable, "-m", "data_scoring.entry", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / "two.jsonl.work/score").glob("part-*"))) == 2
    assert two.read_bytes() == (tmp_path / "out.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["model=null"], "model is not set"),
        (["model=nowhere/at/all"], "no model folder"),
        (["max_length=65"], "max_length=65 is more than the 64 positions"),
        (["stride=0"], "stride: 0 is not valid"),
        (["stride=65"], "stride (65) is larger than max_length (64)"),
        (["metric=loss"], "metric: loss is not valid"),
        (["extra_metrics=[bpb, ppl]"], "extra_metrics: ppl is the metric already"),
        (["extra_metrics=[bpb]", "score_field=bpb"], "score_field=bpb: the method writes another field of that name"),
        (["device=quantum"], "device quantum"),
    ],
)
def test_bad_calls_are_one_line(tmp_path, model, keys, message, capsys):
    words = [write(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "perplexity"]
    assert main(STAGE, [*words, *with_usual(keys, f"model={model}", "max_length=64")]) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "out.jsonl").exists()
