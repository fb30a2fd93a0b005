"""The method kenlm: perplexities by hand, files, training to scoring, resuming, and what it says to mistakes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.files.manifest import read_manifest
from data_common.files.work_folder import WorkFolder
from data_scoring.entry import STAGE
from data_scoring.kenlm import method
from data_scoring.kenlm.language_model import is_hub_id
from data_scoring.kenlm.method import Scorer

ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-2.0\t<unk>\t0
-99\t<s>\t-0.5
-1.0\t</s>\t0
-0.6\ta\t-0.2
-0.9\tb\t-0.1

\\2-grams:
-0.3\t<s> a
-0.4\ta b
-0.7\tb </s>

\\end\\
"""
A_B = -0.3 - 0.4 - 0.7  # <s> a b </s>
B = (-0.5 - 0.9) - 0.7  # backs off behind <s>
A_X = -0.3 + (-0.2 - 2.0) - 1.0  # an unknown word


@pytest.fixture
def arpa(tmp_path):
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    return str(path)


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def scores(texts, tmp_path, **keys):
    scorer = Scorer(tokenizer="words", workers=1, **keys)
    work = WorkFolder(tmp_path / "work", {"data": texts, "reading": 0} | scorer.inputs())
    with work.locked():
        return scorer.score(texts, work), scorer


def test_perplexity_by_hand(arpa, tmp_path):
    texts = ["a b", "b", "a\nb", "A x", "a b ", "\x00"]
    found, _ = scores(texts, tmp_path, model_path=arpa)
    one_word = 10 ** -((-0.5 - 2.0) - 1.0)  # "ab", the newline removed: unknown
    expected = [10 ** (-A_B / 3), 10 ** (-B / 2), one_word ** (1 / 2), 10 ** (-A_X / 3), 10 ** (-A_B / 3), np.nan]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_per_line_counts_an_end_for_each_line_and_finds_the_worst(arpa, tmp_path):
    texts = ["a b\n\n \nb\n", "a b"]
    found, scorer = scores(texts, tmp_path, model_path=arpa, lines="per-line", worst_line_field="worst")
    np.testing.assert_allclose(found, [10 ** (-(A_B + B) / 5), 10 ** (-A_B / 3)], rtol=1e-6)
    np.testing.assert_allclose(scorer.extra["worst"], [10 ** (-B / 2), 10 ** (-A_B / 3)], rtol=1e-6)
    assert scorer.extra_directions == {"worst": "lower"}


def test_short_texts_and_short_lines(arpa, tmp_path):
    texts = ["a b", "a b\nb", "b\nb", "b"]
    keys = {"model_path": arpa, "lines": "per-line", "worst_line_field": "worst", "min_tokens": 2}
    found, scorer = scores(texts, tmp_path, **keys)
    a_b, b = 10 ** (-A_B / 3), 10 ** (-B / 2)
    np.testing.assert_allclose(found, [a_b, 10 ** (-(A_B + B) / 5), b, np.nan], rtol=1e-6)
    np.testing.assert_allclose(scorer.extra["worst"], [a_b, a_b, b, np.nan], rtol=1e-6)


def run(*words):
    return main(STAGE, [str(word) for word in words])


def values(path):
    return [json.loads(line)["score"] for line in path.read_text().split("\n")[:-1]]


def test_from_the_command_line(arpa, tmp_path, capsys):
    source, out = write(tmp_path / "in.jsonl", ["a b", "\x01", "b"]), tmp_path / "out.jsonl"
    keys = (source, out, "kenlm", f"model_path={arpa}", "tokenizer=words")
    assert run(*keys) == 2
    assert "in.jsonl:2: no text to score" in capsys.readouterr().err
    assert run(*keys, "on_short=drop") == 0
    assert values(out) == pytest.approx([10 ** (-A_B / 3), 10 ** (-B / 2)], rel=1e-6)
    manifest = read_manifest(out)
    assert manifest["directions"] == {"score": "lower"}
    assert manifest["short_rows"] == 1
    assert manifest["facts"]["lines"] == "document" and manifest["facts"]["normalization"]["control"] == ""
    assert manifest["facts"]["unknown_tokens"] == 0 and manifest["facts"]["tokens"] == 3
    assert manifest["inputs"]["model"]["path"] == arpa


def test_a_folder_like_ccnets(tmp_path, capsys):
    """SentencePiece pieces of a trained model, and the same model through a folder."""
    text = [f"the cat number {i} sat on the mat and {i % 7} dogs ran away" for i in range(200)]
    data, out = write(tmp_path / "good.jsonl", text), tmp_path / "out.jsonl"
    keys = ("normalization=edugp", "workers=1")
    assert run(data, out, "kenlm", f"train_data={data}", "vocab_size=60", "order=3", *keys) == 0
    folder = tmp_path / "models"
    folder.mkdir()
    work = tmp_path / "out.jsonl.work"
    (work / "language_model" / "lm.arpa").rename(folder / "en.arpa.bin")
    (work / "tokenizer" / "sp.model").rename(folder / "en.sp.model")
    again = tmp_path / "again.jsonl"
    assert run(data, again, "kenlm", f"model_path={folder}", *keys) == 0
    assert again.read_bytes() == out.read_bytes()
    direct = tmp_path / "direct.jsonl"
    assert run(data, direct, "kenlm", f"model_path={folder}/en.arpa.bin", *keys) == 0
    assert direct.read_bytes() == out.read_bytes()
    assert run(data, again, "kenlm", f"model_path={folder}", "language=fr") == 2
    assert "no model for language fr" in capsys.readouterr().err


def test_training_prefers_text_like_its_own_for_any_number_of_workers(tmp_path, capsys):
    good = [f"the {a} dog likes the {b} cat" for a in ("big", "small", "old") for b in ("red", "lazy", "new")]
    data = write(tmp_path / "good.jsonl", good)
    source = write(tmp_path / "in.jsonl", ["the old dog likes the new cat", "cat cat likes old the the new"] * 1500)
    files = []
    for workers in (1, 2):
        files.append(tmp_path / f"{workers}.jsonl")
        keys = (f"train_data={data}", "tokenizer=words", "order=4", f"workers={workers}")
        assert run(source, files[-1], "kenlm", *keys) == 0
    found = values(files[0])
    assert found[0] < found[1] / 3 and len(set(found)) == 2
    assert files[0].read_bytes() == files[1].read_bytes()
    assert read_manifest(files[0])["facts"]["ngrams"][0] == 3 + 10
    capsys.readouterr()
    assert run(source, files[1], "kenlm", *keys, "min_tokens=3") == 0
    said = capsys.readouterr().out
    assert "language_model: up to date" in said and "score: made again, min_tokens was 1, is 3" in said


def test_a_killed_run_goes_on_at_the_parts_that_are_missing(arpa, tmp_path, monkeypatch):
    monkeypatch.setattr(method, "PART", 10)
    texts = ["a b", "b", "x"] * 20
    whole, _ = scores(texts, tmp_path, model_path=arpa)
    record = tmp_path / "work" / "score" / "step.json"
    record.write_text(record.read_text().replace('"complete": true', '"complete": false'))
    parts = sorted((tmp_path / "work" / "score").glob("*.npy"))
    assert len(parts) == 6
    parts[3].unlink()
    before = [part.stat().st_mtime_ns for part in parts if part.exists()]
    again, _ = scores(texts, tmp_path, model_path=arpa)
    np.testing.assert_array_equal(again, whole)
    assert [part.stat().st_mtime_ns for part in parts if part != parts[3]] == before


def test_warning_where_model_and_tokens_do_not_fit(arpa, tmp_path, capsys):
    scores(["x y z", "a q r"], tmp_path, model_path=arpa)
    assert "the model does not know 83% of the first tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["model_path=null", "train_data=null"], "neither model_path nor train_data is set"),
        (["model_path=./missing.arpa"], "model_path ./missing.arpa: no such file, folder or hub id"),
        (["model_path=lm.arpa"], "lm.arpa comes without .sp.model: set sentencepiece_model=..., or tokenizer=words"),
        (["model_path=in.jsonl", "tokenizer=words"], "cannot load the n-gram model in.jsonl"),
        (["model_path=lm.arpa", "sentencepiece_model=lm.arpa"], "cannot load the SentencePiece model lm.arpa"),
        (["train_data=in.jsonl", "sentencepiece_model=nowhere"], "cannot load the SentencePiece model nowhere"),
        (["train_data=missing.jsonl"], "missing.jsonl"),
        (["train_data=empty.jsonl"], "empty.jsonl holds no rows"),
        (["train_data=blank.jsonl", "tokenizer=words"], "train_data blank.jsonl holds no text"),
        (["train_data=blank.jsonl"], "SentencePiece cannot be trained on this text"),
        (["worst_line_field=worst"], "worst_line_field needs lines=per-line"),
        (["order=7"], "order: 7 is not valid"),
        (["normalization=ccnett"], "normalization: ccnett is not valid"),
    ],
)
def test_mistakes(keys, said, arpa, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", ["a b"])
    write(tmp_path / "blank.jsonl", [" ", "\x01"])
    (tmp_path / "empty.jsonl").write_text("")
    given = ["train_data=in.jsonl", "model_path=null"]
    keys = [*(key for key in given if not any(own.startswith(key.split("=")[0]) for own in keys)), *keys]
    assert run("in.jsonl", "out.jsonl", "kenlm", *keys) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_without_the_package(arpa, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    source = write(tmp_path / "in.jsonl", ["a"])
    assert run(source, tmp_path / "out.jsonl", "kenlm", f"model_path={arpa}", "tokenizer=words") == 2
    assert "the package kenlm is missing: python -m pip install kenlm" in capsys.readouterr().err


def test_hub_ids(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("edugp/kenlm") and is_hub_id("edugp/kenlm/wikipedia")
    assert not any(map(is_hub_id, ("./edugp/kenlm", "/edugp/kenlm", "lm.arpa", "../a/b", "models/lm.arpa")))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "model").mkdir()
    assert not is_hub_id("here/model")
    # what the hub gives is a folder like any other
    (tmp_path / "cache" / "wikipedia").mkdir(parents=True)
    (tmp_path / "cache" / "wikipedia" / "de.arpa").write_text(ARPA)
    asked = []
    monkeypatch.setattr(
        "data_common.hub.snapshots.cached_files", lambda *words: asked.append(words) or tmp_path / "cache"
    )
    monkeypatch.setattr("data_common.hub.snapshots.only_on_hub", lambda *words: asked.append(words))
    source = write(tmp_path / "in.jsonl", ["a b"])
    out = tmp_path / "out.jsonl"
    assert run(source, out, "kenlm", "model_path=some/models/wikipedia", "language=de", "tokenizer=words") == 0
    assert len(asked) == 2  # whether it is there; what is there
    assert all(id == "some/models" and "wikipedia/de.arpa.bin" in names for id, names in asked)
    assert values(out) == pytest.approx([10 ** (-A_B / 3)], rel=1e-6)


def test_no_hub_is_one_line(tmp_path):
    source = write(tmp_path / "in.jsonl", ["a b"])
    command = [
        "bash",
        REPOSITORY / "data_scoring/entry.sh",
        source,
        tmp_path / "out.jsonl",
        "kenlm",
        "model_path=no/such",
    ]
    environment = os.environ | {"DELT_PYTHON": sys.executable, "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.split("\n")[-2].startswith("error: ") and "no/such" in done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("この川は春になると水位が大きく上がるため近くに住む人々は早めに準備をしなければなりません。", True),
        ("แม่น้ำสายนี้จะมีระดับน้ำสูงขึ้นมากในฤดูใบไม้ผลิ ดังนั้นชาวบ้านใกล้เคียงต้องเตรียมตัวล่วงหน้า", True),
        ("The river rises in spring, so that those who live near it have to prepare in time.", False),
    ],
)
def test_words_of_a_language_without_spaces_are_told(tmp_path, arpa, text, told):
    _, scorer = scores([text] * 3, tmp_path, model_path=arpa)
    assert any("tokenizer=sentencepiece" in warning for warning in scorer.warnings) == told
