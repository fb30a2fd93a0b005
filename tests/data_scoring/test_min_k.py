"""Min-K% Prob by hand, against a plain loop, and at k = 100 % against the mean."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_common.calls.cli import main
from data_common.calls.config import build
from data_common.files.manifest import read_manifest
from data_scoring.entry import STAGE
from data_scoring.min_k.method import Scorer
from tests.data_scoring.test_perplexity_scores import with_usual
from tests.models import save_model

TEXTS = ["a plain text", "Zweiter Text: ä, ö, ü", "no", "the same words again and again " * 5]


def mean_of_lowest(rows, **keys):
    counts = np.array([len(row) for row in rows])
    return build(Scorer, {"model": "any"} | keys).mean_of_lowest(
        np.concatenate(rows), np.cumsum(counts) - counts, counts
    )


def test_by_hand():
    rows = [[-1.0, -5, -3, -2, -4], [-7.0], [-1.0, -2, -9]]
    assert mean_of_lowest(rows, k_percent=40).tolist() == [-4.5, -7, -9]  # 2, at least 1, and 1.2 rounded down
    assert mean_of_lowest(rows).tolist() == [-5, -7, -9]
    assert mean_of_lowest([[-3.0, -1, -2] * 100], k_percent=29).tolist() == [-3]  # 87 values
    assert mean_of_lowest([np.arange(100.0)], k_percent=29).tolist() == [14]  # 29, though 100 * 0.29 = 28.999...


LOG_PROBABILITIES = st.lists(st.lists(st.floats(-20, 0), min_size=1, max_size=30), min_size=1, max_size=8)


@given(LOG_PROBABILITIES, st.integers(1, 100))
def test_against_a_plain_loop(rows, percent):
    found = mean_of_lowest(rows, k_percent=percent)
    for row, value in zip(rows, found, strict=True):
        count = max(1, len(row) * percent // 100)
        assert value == pytest.approx(np.mean(sorted(row)[:count]), abs=1e-12)
    assert (found <= mean_of_lowest(rows, k_percent=100) + 1e-12).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("min_k")
    save_model(folder / "model")
    save_model(folder / "reference", "gpt2", seed=1)
    (folder / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return folder


def scores(folder, out, method, *keys):
    keys = with_usual(keys, f"model={folder / 'model'}", "max_length=64")
    assert main(STAGE, [str(folder / "in.jsonl"), str(out), method, *keys]) == 0
    return np.array([json.loads(line)["score"] for line in out.read_text().split("\n")[:-1]])


def test_all_tokens_give_the_mean_also_from_what_perplexity_left(folder, tmp_path, capsys):
    nll = scores(folder, tmp_path / "nll.jsonl", "perplexity", "metric=nll")
    capsys.readouterr()
    work = f"work_dir={tmp_path / 'nll.jsonl.work'}"
    lowest = scores(folder, tmp_path / "min_k.jsonl", "min-k", "k_percent=100", work)
    assert capsys.readouterr().out.count(": up to date") == 2
    np.testing.assert_allclose(lowest, -nll, rtol=1e-12)
    assert read_manifest(tmp_path / "min_k.jsonl")["directions"] == {"score": "higher"}


def test_the_reference_is_subtracted(folder, tmp_path, capsys):
    own = scores(folder, tmp_path / "own.jsonl", "min-k")
    other = scores(folder, tmp_path / "other.jsonl", "min-k", f"model={folder / 'reference'}")
    both = scores(folder, tmp_path / "both.jsonl", "min-k", f"reference_model={folder / 'reference'}")
    np.testing.assert_array_equal(both, own - other)
    same = scores(folder, tmp_path / "same.jsonl", "min-k", f"reference_model={folder / 'model'}")
    assert not same.any() and np.abs(both).min() > 0
    manifest = read_manifest(tmp_path / "both.jsonl")
    assert manifest["inputs"]["reference_model"]["xxh3"] and manifest["facts"].keys() == {"model", "reference_model"}
    capsys.readouterr()
    # Another reference: what the model itself gave is taken as it is.
    scores(folder, tmp_path / "both.jsonl", "min-k", f"reference_model={folder / 'model'}", "k_percent=50")
    said = capsys.readouterr().out
    assert "\nscore: up to date" in said and "score-reference_model: made again" in said


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("k_percent=0", "k_percent: 0 is not valid"),
        ("k_percent=101", "k_percent: 101 is not valid"),
        ("reference_model=nowhere/at/all", "no model folder nowhere/at/all"),
    ],
)
def test_bad_calls_are_one_line(folder, tmp_path, key, message, capsys):
    words = [str(folder / "in.jsonl"), str(tmp_path / "out.jsonl"), "min-k", f"model={folder / 'model'}"]
    assert main(STAGE, [*words, "max_length=64", key]) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.startswith("error: ") and message in error and not (tmp_path / "out.jsonl").exists()
