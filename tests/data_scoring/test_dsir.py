"""dsir against the formula written out; invariances; mistakes. benchmarks/dsir.py runs the authors' package."""

import json

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.files.work_folder import WorkFolder
from data_scoring.dsir.method import Scorer, divergence
from data_scoring.engines.ngrams import Buckets
from data_scoring.entry import STAGE

RAW = [
    "The river rises in spring, and the river falls.",
    "Buy now! Buy cheap watches now!",
    "A river is a stream of water.",
    "Spring water.",
    "now now now",
]
TARGET = ["The water of the river is cold in spring.", "A stream of cold water."]


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def weights(tmp_path, raw=RAW, target=TARGET, name="work", **keys):
    scorer = Scorer(target_data=write(tmp_path / f"{name}.target.jsonl", target), workers=1, **keys)
    work = WorkFolder(tmp_path / name, {"data": raw, "reading": 0} | scorer.inputs())
    with work.locked():
        return scorer.score(raw, work), scorer


def counts(texts, order, buckets):
    """(texts, buckets), by loops over the words between blanks and marks."""
    bucket, table = Buckets(buckets), np.zeros((len(texts), buckets))
    for number, text in enumerate(texts):
        for mark in ".,!":
            text = text.replace(mark, f" {mark} ")
        words = text.lower().split()
        for length in range(1, order + 1):
            for start in range(len(words) - length + 1):
                table[number, bucket[" ".join(words[start : start + length])]] += 1
    return table


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_the_formula_written_out(tmp_path, order, smoothing):
    raw, target = counts(RAW, order, 97), counts(TARGET, order, 97).sum(0) + smoothing
    wanted = raw @ (np.log(target / target.sum() + 1e-8) - np.log(raw.sum(0) / raw.sum() + 1e-8))
    found, scorer = weights(tmp_path, ngrams=order, buckets=97, target_smoothing=smoothing)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    words = counts(RAW, 1, 97).sum(1)
    keys = {"ngrams": order, "buckets": 97, "target_smoothing": smoothing}
    each, _ = weights(tmp_path, name="each", normalize="per-token", **keys)
    np.testing.assert_allclose(each, wanted / words, rtol=1e-12)
    assert scorer.facts["words"] == words.sum()


def test_invariances(tmp_path):
    same, scorer = weights(tmp_path, target=RAW)
    np.testing.assert_allclose(same, 0, atol=1e-12)
    assert scorer.facts["kl_target_corpus"] == 0
    whole, _ = weights(tmp_path, raw=RAW[:2], name="whole")
    twice, _ = weights(tmp_path, raw=RAW[:2] * 2, name="twice")  # the same distribution
    np.testing.assert_allclose(twice, np.tile(whole, 2), rtol=1e-9)


def test_selecting_by_the_weights_brings_the_corpus_nearer(tmp_path):
    raw = [*RAW * 3, *TARGET]
    found, scorer = weights(tmp_path, raw=raw, normalize="per-token")
    assert set(np.argsort(-found)[:2]) == {15, 16}
    table, target = counts(raw, 2, 10_000), counts(TARGET, 2, 10_000).sum(0)
    chosen = table[np.argsort(-found, kind="stable")[:2]].sum(0)  # 10 % of 17 rows, rounded up
    wanted = divergence(target, table.sum(0)) - divergence(target, chosen)
    assert scorer.facts["kl_reduction_top_10%"] == pytest.approx(wanted, abs=1e-4)


def test_short_rows(tmp_path):
    found, _ = weights(tmp_path, min_tokens=4)
    assert np.isnan(found).tolist() == [False, False, False, True, True]


def test_the_stage(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", RAW)
    write(tmp_path / "target.jsonl", TARGET)
    assert main(STAGE, ["in.jsonl", "out.jsonl", "dsir", "target_data=target.jsonl"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    expected, _ = weights(tmp_path)
    np.testing.assert_allclose([row["score"] for row in rows], expected, rtol=1e-12)
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert manifest["directions"] == {"score": "higher"} and "kl_reduction_top_30%" in manifest["facts"]
    # another normalization counts nothing again
    assert main(STAGE, ["in.jsonl", "out.jsonl", "dsir", "target_data=target.jsonl", "normalize=per-token"]) == 0
    assert capsys.readouterr().out.count("up to date") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["target_data=none.jsonl"], "target_data: no such file: none.jsonl"),
        (["target_data=in.jsonl", "target_field=body"], "(the row has text: target_field=text)"),
        (["target_data=in.jsonl", "ngrams=0"], "ngrams: 0 is not valid"),
        (["target_data=in.jsonl", "normalize=token"], "normalize: token is not valid"),
    ],
)
def test_mistakes(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", RAW)
    assert main(STAGE, ["in.jsonl", "out.jsonl", "dsir", *words]) == 2
    assert message in capsys.readouterr().err
