"""D4: its two parts against a walk, what it leaves out, and its budget."""

import json

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_selection.d4.method import select
from data_selection.entry import STAGE
from data_selection.semdedup.method import select as semdedup

RNG = np.random.default_rng(0)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [0, 5, 40])
def test_of_what_semdedup_leaves_the_rows_far_from_the_centroids(k):
    labels = RNG.integers(4, size=200)
    vectors = unit(3 * np.eye(4, 8)[labels] + RNG.normal(size=(200, 8)) / 2)
    left, before = semdedup(vectors, similarity=0.97, clusters=4)
    centroids = np.array([vectors[left][labels[left] == cluster].mean(0) for cluster in range(4)])
    cosines = {row: vectors[row] @ unit(centroids)[labels[row]] for row in left}
    kept, facts = select(vectors, k=k, similarity=0.97, clusters=4)
    assert sorted(kept) == sorted(sorted(cosines, key=cosines.get)[:k])
    assert facts == before | {"prototypical": len(left) - k} and len(left) > 40


def test_fewer_rows_than_asked_for_are_all_that_differ():
    vectors = np.repeat(unit(RNG.normal(size=(10, 4))), 3, axis=0)
    kept, facts = select(vectors, r=0.9)
    assert sorted(kept) == list(range(0, 30, 3))
    assert facts["exact_copies"] == 20 and facts["prototypical"] == 0
    with pytest.raises(UserError, match="12 clusters of 10 rows"):
        select(vectors, r=0.9, clusters=12)
    with pytest.raises(UserError, match="exactly one of r and k"):
        select(vectors, r=0.9, k=2)


def test_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rows = [{"text": text} for text in ("rain on hills", "ships at sea", "rain on hills", "bread of flour")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(STAGE, ["in.jsonl", "out.jsonl", "d4", "r=null", "k=3"]) == 0
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]] == [
        rows[0],
        rows[1],
        rows[3],
    ]
