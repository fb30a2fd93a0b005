"""kMQ: quotas of clusters, one cluster and n of them are gumbel, chi-square of the draws, the silhouette, a file."""

import json

import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.metrics import silhouette_score

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_selection.entry import STAGE
from data_selection.gumbel.method import select as gumbel
from data_selection.kmq.method import select

RNG = np.random.default_rng(0)


def planted(sizes):
    """Labels and vectors of clusters that are far apart."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return labels, 5 * np.eye(len(sizes))[labels] + RNG.normal(size=(len(labels), len(sizes))) / 5


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("clusters", [1, 40])
def test_one_cluster_and_a_cluster_for_each_row_are_gumbel(clusters, normalize):
    score, vectors = RNG.normal(size=40), RNG.normal(size=(40, 3))
    keys = {"k": 15, "temperature": 0.7, "normalize": normalize, "seed": 3}
    kept, facts = select(score, vectors, np.arange(40), clusters=clusters, **keys)
    assert sorted(kept) == sorted(gumbel(score, np.arange(40), **keys))
    assert facts == {"clusters": clusters, "silhouette": None}
    assert sorted(select(score, vectors, np.arange(40), r=1.0, clusters=clusters)[0]) == list(range(40))


def test_a_cluster_gives_its_share_by_size():
    labels, vectors = planted([50, 30, 17, 3])
    kept, facts = select(RNG.normal(size=100), vectors, np.arange(100), k=20, clusters=4)
    assert np.bincount(labels[kept], minlength=4).tolist() == [10, 6, 3, 1]  # 10, 6, 3.4, 0.6
    assert len(set(kept)) == 20
    assert facts == {"clusters": 4, "silhouette": pytest.approx(silhouette_score(vectors, labels), abs=1e-4)}


def test_within_a_cluster_better_rows_are_drawn_as_often_as_they_should():
    """400 clusters of three rows, of which each gives one."""
    score, vectors = np.tile(np.log([1, 2, 5]), 400), np.repeat(np.eye(400), 3, axis=0)
    kept, facts = select(score, vectors, np.arange(1200), k=400, clusters=400)
    assert facts["clusters"] == 400 and sorted(kept // 3) == list(range(400))
    counts = np.bincount(kept % 3)
    assert chisquare(counts, 400 * np.array([1, 2, 5]) / 8).pvalue > 1e-3
    assert chisquare(counts).pvalue < 1e-6  # as a uniform draw it would not pass


def test_equal_and_zero_vectors_and_too_many_clusters():
    for vectors in (np.ones((30, 2)), np.zeros((30, 2))):
        score = RNG.normal(size=30)
        kept, facts = select(score, vectors, np.arange(30), k=7, clusters=5)
        assert facts == {"clusters": 1, "silhouette": None}
        assert sorted(kept) == sorted(gumbel(score, np.arange(30), k=7))
    with pytest.raises(UserError, match="31 clusters of 30 rows"):
        select(score, vectors, np.arange(30), k=7, clusters=31)
    with pytest.raises(UserError, match="exactly one of r and k"):
        select(score, vectors, np.arange(30))


def test_a_file_whose_lower_scores_are_better(tmp_path, monkeypatch):
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    subjects = ["rain falls on the hills", "ships sail over the sea"]
    rows = [{"score": i, "text": subjects[i % 2]} for i in range(12)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = ["r=0.5", "temperature=0.001", "direction=lower", "clusters=2"]
    assert main(STAGE, ["in.jsonl", "out.jsonl", "kmq", *keys]) == 0
    kept = [json.loads(line)["score"] for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert kept == [0, 1, 2, 3, 4, 5]
    assert main(STAGE, ["in.jsonl", "out2.jsonl", "kmq", *keys, "group_field=score"]) == 2  # two clusters of one row
