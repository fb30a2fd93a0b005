"""Bits per byte and per character of the method kenlm: against KenLM token by token; files of older versions."""

import json
import math

import kenlm
import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.files.manifest import read_manifest
from data_scoring.entry import STAGE
from data_scoring.kenlm import method
from data_scoring.kenlm.normalization import PRESETS
from data_scoring.kenlm.tokenization import sentencepiece, words

GOOD = [f"the cat number {i} sat on the mat and {i % 7} dogs ran away, ça va" for i in range(200)]
TEXTS = [
    "The cat sat on the mat.",
    "dogs ran away\n\n  and 17 cats sat \n",
    "Кот сел на коврик",  # one long unknown piece
    "猫 sat on the 敷物\n猫",
    "a zebra zigzags",
    "mat " * 40,
]


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def run(*words):
    return main(STAGE, [str(word) for word in words])


def column(path, field="score"):
    return np.array([json.loads(line)[field] for line in path.read_text(encoding="utf-8").split("\n")[:-1]])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a model of pieces and one of words, trained on GOOD."""
    folder = tmp_path_factory.mktemp("models")
    data = write(folder / "good.jsonl", GOOD)
    for name, keys in (("sentencepiece", ["vocab_size=60"]), ("words", ["tokenizer=words"])):
        assert run(data, folder / f"{name}.jsonl", "kenlm", f"train_data={data}", "order=3", "workers=1", *keys) == 0
        work = folder / f"{name}.jsonl.work"
        (work / "language_model" / "lm.arpa").rename(folder / f"{name}.arpa")
    (folder / "sentencepiece.jsonl.work/tokenizer/sp.model").rename(folder / "sentencepiece.sp.model")
    return folder


def brute_force(models, tokenizer, lines, text):
    """(perplexity, bits) of a text, token by token: an unknown one costs its <unk> and 8 bits for each of its bytes."""
    model = kenlm.Model(str(models / f"{tokenizer}.arpa"))
    tokenize = words if tokenizer == "words" else sentencepiece(str(models / "sentencepiece.sp.model"))
    log10, predicted, spelled = 0.0, 0, 0
    for line in text.split("\n") if lines == "per-line" else [text]:
        tokens = tokenize(PRESETS["ccnet"](line))
        if tokens:
            for token, (found, _, unknown) in zip([*tokens, "</s>"], model.full_scores(" ".join(tokens)), strict=True):
                log10 += found
                predicted += 1
                spelled += len(token.replace("▁", " ").encode()) if unknown else 0
    return 10 ** (-log10 / predicted), -log10 * math.log2(10) + 8 * spelled


@pytest.mark.parametrize("tokenizer", ["sentencepiece", "words"])
@pytest.mark.parametrize("lines", ["document", "per-line"])
def test_every_metric_equals_the_sum_over_tokens(models, tokenizer, lines, tmp_path):
    source, out = write(tmp_path / "in.jsonl", TEXTS), tmp_path / "out.jsonl"
    keys = [f"model_path={models}/{tokenizer}.arpa", f"tokenizer={tokenizer}", f"lines={lines}", "workers=1"]
    assert run(source, out, "kenlm", *keys, "metric=bpb", "extra_metrics=[ppl, bpc]") == 0
    perplexity, bits = np.array([brute_force(models, tokenizer, lines, text) for text in TEXTS]).T
    np.testing.assert_allclose(column(out, "ppl"), perplexity, rtol=1e-5)
    np.testing.assert_allclose(column(out), bits / [len(text.encode()) for text in TEXTS], rtol=1e-5)
    np.testing.assert_allclose(column(out, "bpc"), bits / [len(text) for text in TEXTS], rtol=1e-5)
    assert read_manifest(out)["directions"] == {"score": "lower", "ppl": "lower", "bpc": "lower"}


@pytest.mark.parametrize("metric", ["bpb", "bpc"])
def test_a_script_that_the_model_does_not_know_is_the_worst(models, metric, tmp_path):
    """As one unknown piece without its letters it would be the best."""
    source, out = write(tmp_path / "in.jsonl", TEXTS), tmp_path / "out.jsonl"
    assert run(source, out, "kenlm", f"model_path={models}/sentencepiece.arpa", f"metric={metric}", "workers=1") == 0
    assert column(out).argmax() == 2


def as_an_older_version(work):
    """The parts without the columns that came later, the record without its list of files."""
    for part in (work / "score").glob("*.npy"):
        np.save(part, np.load(part)[:, :3])
    path = work / "score" / "step.json"
    record = json.loads(path.read_text())
    del record["files"]
    path.write_text(json.dumps(record))


def test_parts_of_an_older_version_stay_and_are_read_once_more_for_bits(models, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(method, "PART", 4)
    source, out = write(tmp_path / "in.jsonl", TEXTS), tmp_path / "out.jsonl"
    keys = [f"model_path={models}/sentencepiece.arpa", "lines=per-line", "workers=1"]
    assert run(source, out, "kenlm", *keys) == 0
    before, work = out.read_bytes(), tmp_path / "out.jsonl.work"
    as_an_older_version(work)
    kept = {part: part.stat().st_mtime_ns for part in (work / "score").glob("*.npy")}
    capsys.readouterr()
    out.unlink()
    assert run(source, out, "kenlm", *keys) == 0
    assert "score: up to date" in capsys.readouterr().out and out.read_bytes() == before
    assert {part: part.stat().st_mtime_ns for part in kept} == kept
    fresh = tmp_path / "fresh.jsonl"
    assert run(source, fresh, "kenlm", *keys, "metric=bpb") == 0
    assert "read once more" not in capsys.readouterr().out
    assert run(source, out, "kenlm", *keys, "metric=bpb") == 0
    assert "score: an older version kept perplexities alone; the texts are read once more" in capsys.readouterr().out
    assert out.read_bytes() == fresh.read_bytes()
    assert run(source, out, "kenlm", *keys, "metric=bpc") == 0
    said = capsys.readouterr().out
    assert "score: up to date" in said and "read once more" not in said


def test_the_worst_line_is_a_perplexity_beside_any_metric(models, tmp_path):
    source, out = write(tmp_path / "in.jsonl", TEXTS), tmp_path / "out.jsonl"
    keys = [f"model_path={models}/sentencepiece.arpa", "lines=per-line", "worst_line_field=worst", "workers=1"]
    assert run(source, out, "kenlm", *keys, "metric=bpb", "extra_metrics=[bpc]") == 0
    assert read_manifest(out)["directions"] == {"score": "lower", "bpc": "lower", "worst": "lower"}
    worst = [
        max(brute_force(models, "sentencepiece", "per-line", line)[0] for line in text.split("\n") if line.strip())
        for text in TEXTS
    ]
    np.testing.assert_allclose(column(out, "worst"), worst, rtol=1e-5)


def test_a_short_text_has_no_metric(models, tmp_path):
    source, out = write(tmp_path / "in.jsonl", ["the mat", "\x01", "the cat sat"]), tmp_path / "out.jsonl"
    keys = [f"model_path={models}/words.arpa", "tokenizer=words", "metric=bpb", "extra_metrics=[bpc, ppl]", "workers=1"]
    assert run(source, out, "kenlm", *keys, "min_tokens=3", "on_short=drop") == 0
    rows = [json.loads(line) for line in out.read_text().split("\n")[:-1]]
    assert [row["text"] for row in rows] == ["the cat sat"] and rows[0]["bpc"] == rows[0]["score"]
    assert run(source, out, "kenlm", *keys, "min_tokens=3", "on_short=worst") == 0
    for field in ("score", "bpc", "ppl"):
        assert len(set(column(out, field))) == 1


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["metric=nll"], "metric: nll is not valid"),
        (["extra_metrics=[bpb, ppl]"], "extra_metrics: ppl is the metric already"),
        (["extra_metrics=[bpb]", "score_field=bpb"], "score_field=bpb: the method writes another field of that name"),
        (
            ["extra_metrics=[bpb]", "lines=per-line", "worst_line_field=bpb"],
            "worst_line_field=bpb: extra_metrics writes a field of that name",
        ),
    ],
)
def test_mistakes(models, keys, said, tmp_path, capsys):
    source = write(tmp_path / "in.jsonl", TEXTS)
    model = f"model_path={models}/words.arpa"
    assert run(source, tmp_path / "out.jsonl", "kenlm", model, "tokenizer=words", *keys) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1
