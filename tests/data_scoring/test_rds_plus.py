"""RDS+ by hand and against transformers; its fields; what a user can do wrong."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModel

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_scoring.entry import STAGE
from data_scoring.rds_plus.method import nearest_of_each_query
from tests.models import byte_tokenizer, save_model

TEXTS = ["a plain text", "Zweiter Text: ä, ö, ü", "no", "again and again, and again", "a plain tent", "no"]
TARGET = [
    {"text": "a plain text", "task": "plain", "part": 1},
    {"text": "something else", "task": "other", "part": 2.0},
    {"text": "no, not that", "task": "plain", "part": 2},
]


def write(name, rows):
    with open(name, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    save_model(tmp_path / "model")
    write("in.jsonl", [{"text": text} for text in TEXTS])
    write("target.jsonl", TARGET)
    return tmp_path


def call(out, *keys):
    words = ["target_data=target.jsonl", "embedder=model", "embedding_max_length=64", "device=cpu", *keys]
    words = [f"{key}={value}" for key, value in dict(word.split("=", 1) for word in words).items()]
    return main(STAGE, ["in.jsonl", out, "rds-plus", *words])


def rows(out, *keys):
    assert call(out, *keys) == 0
    with open(out) as file:
        return [json.loads(line) for line in file]


def columns(found, *names):
    return np.array([[row[name] for name in names] for row in found])


def vector(text, pool):
    """By transformers, one text at a time, in float64."""
    ids = [256, *byte_tokenizer()(text, add_special_tokens=False)["input_ids"]]
    model = AutoModel.from_pretrained("model", dtype=torch.float64)
    with torch.no_grad():
        states = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    pooled = pool(states)
    return pooled / np.linalg.norm(pooled)


def by_position(states):
    total = len(states) * (len(states) + 1) / 2
    return sum((place + 1) / total * state for place, state in enumerate(states))


@pytest.mark.parametrize(("pooling", "pool"), [("position-weighted", by_position), ("mean", lambda h: h.mean(0))])
def test_against_transformers(here, pooling, pool):
    corpus, target = (np.array([vector(text, pool) for text in some]) for some in (TEXTS, [r["text"] for r in TARGET]))
    expected = corpus @ target.T
    found = rows("out.jsonl", f"pooling={pooling}")
    names = [f"similarity_{number}" for number in range(3)]
    assert list(found[0]) == ["text", "score", *names]
    np.testing.assert_allclose(columns(found, *names), expected, atol=1e-3)
    np.testing.assert_allclose(columns(found, "score")[:, 0], expected.max(1), atol=1e-3)
    assert found[0]["score"] == found[0]["similarity_0"] == 1  # a query that is in the corpus
    assert found[2] == found[5]  # equal texts


def test_hand_example():
    """Three targets, of which the first and the last are one query."""
    vectors = np.array([[1, 0], [0, 1], [3, 4], [np.nan, np.nan]], np.float16)
    targets = np.array([[2, 0], [0, -1], [0, 5]], np.float16)
    found = nearest_of_each_query(vectors, targets, np.array([0, 1, 0]), 2)
    assert found[:3].tolist() == [[1, 0], [1, -1], [0.8, -0.8]] and np.isnan(found[3]).all()


def test_blocks_do_not_matter(monkeypatch):
    generator = np.random.default_rng(0)
    vectors, targets = generator.normal(size=(50, 4)), generator.normal(size=(9, 4))
    query = np.array([2, 0, 1, 1, 0, 2, 2, 1, 0])
    whole = nearest_of_each_query(vectors, targets, query, 3)
    monkeypatch.setattr("data_scoring.rds_plus.method.BLOCK", 7)
    np.testing.assert_array_equal(nearest_of_each_query(vectors, targets, query, 3), whole)
    lengths = np.linalg.norm(vectors, axis=1)[:, None] * np.linalg.norm(targets, axis=1)
    cosines = vectors @ targets.T / lengths
    expected = np.stack([cosines[:, query == one].max(1) for one in range(3)], axis=1)
    np.testing.assert_allclose(whole, expected, atol=2e-6)


def test_targets_of_one_group_are_one_query(here):
    single = rows("single.jsonl")
    grouped = rows("grouped.jsonl", "target_group_field=task")
    assert list(grouped[0]) == ["text", "score", "similarity_plain", "similarity_other"]
    expected = columns(single, "similarity_0", "similarity_2").max(1)
    np.testing.assert_array_equal(columns(grouped, "similarity_plain")[:, 0], expected)
    np.testing.assert_array_equal(columns(grouped, "similarity_other"), columns(single, "similarity_1"))
    assert columns(grouped, "score").tolist() == columns(single, "score").tolist()
    assert list(rows("numbers.jsonl", "target_group_field=part")[0])[2:] == ["similarity_1", "similarity_2"]
    manifest = json.loads((here / "grouped.jsonl.manifest.json").read_text())
    assert manifest["directions"] == dict.fromkeys(["score", "similarity_plain", "similarity_other"], "higher")
    assert manifest["facts"]["vectors"] == {"found": 8, "computed": 0}  # 5 texts of the corpus, 3 of the target


def test_with_one_query_the_best_are_those_of_the_largest_cosine(here):
    write("target.jsonl", TARGET[:1])
    found = rows("out.jsonl")
    best = sorted(range(len(TEXTS)), key=lambda row: -found[row]["score"])
    assert TEXTS[best[0]] == "a plain text" and TEXTS[best[1]] == "a plain tent"
    assert all(row["score"] == row["similarity_0"] for row in found)


def test_the_score_alone(here):
    assert list(rows("out.jsonl", "query_fields=false")[0]) == ["text", "score"]
    write("target.jsonl", TARGET[::2])
    assert columns(rows("tfidf.jsonl", "embedder=tfidf", "query_fields=false"), "score")[0] == 1


def test_a_row_without_a_known_word_is_too_short(here, capsys):
    write("in.jsonl", [{"text": "plain text"}, {"text": "..."}, {"text": "no text"}])
    write("target.jsonl", [{"text": "plain"}])
    assert call("out.jsonl", "embedder=tfidf") == 2
    assert "in.jsonl:2: no text to score" in capsys.readouterr().err
    assert [row["text"] for row in rows("out.jsonl", "embedder=tfidf", "on_short=drop")] == ["plain text", "no text"]


def test_two_processes_write_the_same_bytes(here, monkeypatch):
    write("in.jsonl", [{"text": f"{text} {number}"} for number in range(100) for text in TEXTS])
    assert call("one.jsonl") == 0
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "NPROC": "2"}
    environment["DELT_CACHE"] = str(here / "another")
    command = [sys.executable, "-m", "data_scoring.entry", "in.jsonl", "two.jsonl", "rds-plus"]
    command += ["target_data=target.jsonl", "embedder=model", "embedding_max_length=64", "device=cpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("vectors of rows: ") == 1  # one process speaks
    assert (here / "one.jsonl").read_bytes() == (here / "two.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["target_data=none.jsonl"], "target_data: no such file: none.jsonl"),
        (["target_data=null"], "target_data is not set"),
        (["embedder=null"], "embedder is not set"),
        (["embedder=none/at/all"], "no model folder none/at/all"),
        (["embedder=TF-IDF"], "embedder=TF-IDF: no such folder; the embedder without a model is called tfidf"),
        (["embedding_max_length=2048"], "embedding_max_length=2048 is more than the 64 positions"),
        (["pooling=cls"], "pooling=cls: model is a causal model"),
        (["pooling=weighted"], "pooling: weighted is not valid"),
        (["target_field=body"], "target.jsonl:1: body is missing"),
        (["target_group_field=topic"], "target.jsonl:1: topic is missing"),
        (["target_data=many.jsonl"], "target_data=many.jsonl has 257 queries"),
        (["target_data=blank.jsonl"], "blank.jsonl:2: target without a token"),
        (["target_data=empty.jsonl"], "empty.jsonl holds no rows"),
        (["target_data=mixed.jsonl", "target_group_field=task"], "task has 1 as a text and as a number"),
        (["score_field=similarity_0"], "score_field=similarity_0: the method writes another field of that name"),
    ],
)
def test_what_the_user_can_cure(here, keys, message, capsys):
    write("many.jsonl", [{"text": str(number)} for number in range(257)])
    write("blank.jsonl", [{"text": "a"}, {"text": ""}])
    write("empty.jsonl", [])
    write("mixed.jsonl", [{"text": "a", "task": 1}, {"text": "b", "task": "1"}])
    assert call("out.jsonl", *keys) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (here / "out.jsonl").exists()
