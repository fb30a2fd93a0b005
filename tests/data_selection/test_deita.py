"""Score first, diversity aware: against a walk row by row; its limits; a file."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_common.calls.cli import main
from data_ordering.entry import STAGE as ORDERING
from data_selection import near_copies
from data_selection.deita.method import select
from data_selection.entry import STAGE
from data_selection.ranking import best

RNG = np.random.default_rng(0)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def walk(score, vectors, count, similarity):
    """One row after the other, in float64."""
    accepted = []
    for row in sorted(range(len(score)), key=lambda row: (-score[row], row)):
        if len(accepted) < count and all(vectors[row] @ vectors[other] <= similarity for other in accepted):
            accepted.append(row)
    return accepted


@pytest.mark.parametrize("block", [1, 3, 256])
@given(st.integers(0, 60), st.integers(0, 40), st.integers(0, 1000), st.sampled_from([-0.3, 0.2, 0.6, 0.9]))
def test_against_a_walk(block, n, k, seed, similarity):
    generator = np.random.default_rng(seed)
    score, vectors = generator.integers(0, 9, n).astype(float), unit(generator.normal(size=(n, 4)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_copies, "BLOCK", block)
        assert select(score, vectors, k=k, similarity=similarity)[0].tolist() == walk(score, vectors, k, similarity)


def test_what_is_left_out_is_near_to_a_better_row_that_is_kept():
    score, vectors = RNG.random(3000), unit(RNG.normal(size=(3000, 6))).astype(np.float16)
    kept, facts = select(score, vectors, k=120, similarity=0.8)
    near = unit(vectors.astype(float)) @ unit(vectors[kept].astype(float)).T
    np.fill_diagonal(among := near[kept], -1)
    assert len(kept) == 120 and among.max() <= 0.8 + 1e-6
    left_out = [row for row in np.flatnonzero(score > score[kept].min()) if row not in set(kept)]
    assert len(left_out) == facts["too_similar"] > 50
    assert all((near[row] > 0.8 - 1e-6)[score[kept] > score[row]].any() for row in left_out)


def test_twins_are_never_both_kept_and_1_leaves_nothing_out():
    vectors = np.repeat(unit(RNG.normal(size=(100, 32))), 2, axis=0).astype(np.float16)
    score = RNG.random(200)
    kept, _ = select(score, vectors, r=1.0, similarity=0.9999)
    assert len(kept) == len(set(kept // 2)) == 100
    assert select(score, vectors, k=70, similarity=1.0)[0].tolist() == best(score, 70).tolist()


def test_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    subjects = [
        "rain falls on the hills",
        "ships sail over the sea",
        "bread is baked from flour",
        "stars shine at night",
    ]
    rows = [{"score": i, "text": f"{subjects[i % 4]} {'again' if i > 7 else ''}".strip()} for i in range(12)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "deita", "r=1", "direction=higher"]
    assert main(STAGE, [*words, "similarity=0.5"]) == 0
    kept = [json.loads(line)["score"] for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert kept == [8, 9, 10, 11]  # the best row of each subject
    assert json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["facts"] == {"too_similar": 8}
    assert main(STAGE, [*words, "k=3"]) == 2
    assert "exactly one of r and k" in capsys.readouterr().err


def test_rows_without_a_word_are_bad_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rows = [{"text": text, "score": score} for score, text in enumerate(["a plain word", "...", "", "another one"])]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["in.jsonl", "out.jsonl", "deita", "r=0.5", "direction=higher"]
    assert main(STAGE, words) == 2
    message = "in.jsonl:2: no token that embedder=tfidf knows (2 such rows; on_bad_row=drop goes on)"
    assert message in capsys.readouterr().err
    assert main(STAGE, [*words, "on_bad_row=drop", "rejects=rest.jsonl"]) == 0
    assert (tmp_path / "out.jsonl").read_text() == json.dumps(rows[3]) + "\n"
    assert (tmp_path / "rest.jsonl").read_text() == json.dumps(rows[0]) + "\n"
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert manifest["dropped_rows"] == {"no token that embedder=tfidf knows": 2} and manifest["rows_in"] == 2
    (tmp_path / "in.jsonl").write_text(json.dumps(rows[0]) + "\n" + json.dumps(rows[2] | {"text": "?"}) + "\n")
    ordering = ["in.jsonl", "ordered.jsonl", "sorting", "select=deita", "select.r=1", "select.direction=higher"]
    assert main(ORDERING, [*ordering, "on_bad_row=drop"]) == 0
    assert (tmp_path / "ordered.jsonl").read_text() == json.dumps(rows[0]) + "\n"
