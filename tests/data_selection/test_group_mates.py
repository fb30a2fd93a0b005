"""Group-MATES: against a greedy walk over all rows; orthogonal vectors are top-k; scores below 0; a file."""

import json

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_common.rows.statistics import ranks
from data_selection.entry import STAGE
from data_selection.group_mates.method import select
from data_selection.top_k.method import select as top_k

RNG = np.random.default_rng(0)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def walk(score, vectors, count, temperature):
    """All rows looked at, for each that is chosen, and all chosen ones for each of them."""
    chosen = []
    for _ in range(count):
        worth = {
            row: score[row]
            * (np.mean([1 - vectors[row] @ vectors[one] / temperature for one in chosen]) if chosen else 1)
            for row in range(len(score))
            if row not in chosen
        }
        chosen.append(max(worth, key=worth.get))
    return chosen


@pytest.mark.parametrize("temperature", [0.3, 1.0, 7.0])
@pytest.mark.parametrize("normalize", ["rank", "none"])
def test_one_cluster_is_a_greedy_walk(normalize, temperature):
    score, vectors = RNG.normal(size=50), unit(RNG.normal(size=(50, 4)))
    keys = {"k": 20, "clusters": 1, "temperature": temperature, "normalize": normalize}
    kept, facts = select(score, vectors, **keys)
    assert kept.tolist() == walk(ranks(score) if normalize == "rank" else score, vectors, 20, temperature)
    assert facts == {"clusters": 1}


def test_each_cluster_has_a_walk_of_its_own():
    labels = np.repeat(np.arange(3), [10, 20, 30])
    score, vectors = RNG.random(60), unit(3 * np.eye(3, 6)[labels] + RNG.normal(size=(60, 6)) / 2)
    kept, _ = select(score, vectors, r=0.5, clusters=3, normalize="none")
    for cluster, count in enumerate((5, 10, 15)):
        rows = np.flatnonzero(labels == cluster)
        assert kept[labels[kept] == cluster].tolist() == rows[walk(score[rows], vectors[rows], count, 1.0)].tolist()


def test_orthogonal_vectors_are_the_best_rows_and_all_rows_are_all():
    score = RNG.integers(0, 9, 30).astype(float)
    kept, _ = select(score, np.eye(30, dtype=np.float16), k=11, clusters=1)
    assert kept.tolist() == top_k(score, k=11).tolist()
    assert sorted(select(score, np.eye(30), k=99, clusters=5)[0]) == list(range(30))


def test_near_copies_of_a_chosen_row_wait():
    vectors = unit(np.array([[1, 0.0, 0], [1, 0.01, 0], [1, 0, 0.01], [0, 1, 0], [0, 0, 1]]))
    assert select(np.array([5.0, 4, 3, 2, 1]), vectors, k=2, clusters=1)[0].tolist() == [0, 3]


def test_equal_and_zero_vectors_scores_without_a_zero_and_too_many_clusters():
    score = RNG.random(12)
    assert len(set(select(score, np.ones((12, 2)), k=5, clusters=3)[0])) == 5
    assert select(score, np.zeros((12, 2)), k=5, clusters=1)[0].tolist() == top_k(score, k=5).tolist()
    with pytest.raises(UserError, match="no score is above 0, so that rows like each other would be chosen"):
        select(-score, np.ones((12, 2)), k=5, normalize="none")
    with pytest.raises(UserError, match="13 clusters of 12 rows"):
        select(score, np.ones((12, 2)), k=5, clusters=13)


def test_a_file_whose_lower_scores_are_better(tmp_path, monkeypatch):
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    subjects = ["rain falls on the hills", "ships sail over the sea", "bread is baked from flour"]
    rows = [{"score": i, "text": subjects[i // 4]} for i in range(12)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["in.jsonl", "out.jsonl", "group-mates", "r=null", "k=2", "direction=lower", "clusters=1"]
    assert main(STAGE, words) == 0
    kept = [json.loads(line)["score"] for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert kept == [0, 4]  # the best row, and the best of another subject
