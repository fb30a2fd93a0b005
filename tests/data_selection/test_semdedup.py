"""SemDeDup: against a walk over all pairs; planted near copies; the order of the rows; a file."""

import json

import numpy as np
import pytest

from data_common.calls.cli import main
from data_selection.entry import STAGE
from data_selection.semdedup.method import select

RNG = np.random.default_rng(0)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def walk(vectors, labels, similarity):
    """Cluster by cluster in float64: farthest from the centroid first, kept unless too similar to one kept before."""
    kept = []
    for cluster in set(labels):
        rows = np.flatnonzero(labels == cluster)
        centroid = vectors[rows].mean(0)
        cosines = vectors[rows] @ centroid / np.linalg.norm(centroid)
        chosen = []
        for row in rows[np.argsort(cosines, kind="stable")]:
            if all(vectors[row] @ vectors[other] <= similarity for other in chosen):
                chosen.append(row)
        kept += chosen
    return sorted(kept)


@pytest.mark.parametrize("similarity", [0.2, 0.8, 0.95])
def test_one_cluster_is_a_walk_over_all_pairs(similarity):
    vectors = unit(RNG.normal(size=(200, 4)))
    kept, facts = select(vectors, similarity=similarity, clusters=1)
    assert kept.tolist() == walk(vectors, np.zeros(200, int), similarity)
    assert facts == {"clusters": 1, "exact_copies": 0, "too_similar": 200 - len(kept)} and len(kept) < 180
    order = RNG.permutation(200)
    assert sorted(order[select(vectors[order], similarity=similarity, clusters=1)[0]]) == kept.tolist()


def test_clusters_far_apart_are_a_walk_in_each():
    labels = RNG.integers(5, size=200)
    vectors = unit(3 * np.eye(5, 8)[labels] + RNG.normal(size=(200, 8)) / 2)
    kept, facts = select(vectors, similarity=0.97, clusters=5)
    assert kept.tolist() == walk(vectors, labels, 0.97)
    assert facts["clusters"] == 5 and 20 < facts["too_similar"] < 180


def test_what_is_left_out_has_a_near_copy_that_is_kept():
    base = unit(RNG.normal(size=(60, 16)))
    near = unit(base + 0.01 * RNG.normal(size=base.shape))
    vectors = np.concatenate([base, near, base]).astype(np.float16)
    kept, facts = select(vectors, similarity=0.9, clusters=6)
    assert len(kept) == 60 and len(set(kept % 60)) == 60
    assert facts == {"clusters": 6, "exact_copies": 60, "too_similar": 60}


def test_a_file_and_its_groups(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    subjects = ["rain falls on the hills", "ships sail over the sea", "bread is baked from flour"]
    rows = [{"id": i, "text": subjects[i % 3], "kind": "ab"[i // 3]} for i in range(6)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(STAGE, ["in.jsonl", "out.jsonl", "semdedup", "rejects=rest.jsonl"]) == 0
    ids = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert ids == [0, 1, 2]
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert manifest["facts"] == {"clusters": 2, "exact_copies": 3, "too_similar": 0}
    assert main(STAGE, ["in.jsonl", "out2.jsonl", "semdedup", "group_field=kind"]) == 0
    assert (tmp_path / "out2.jsonl").read_text() == (tmp_path / "in.jsonl").read_text()
    assert main(STAGE, ["in.jsonl", "out3.jsonl", "semdedup", "clusters=4"]) == 2
    assert "4 clusters of 3 rows: there cannot be more clusters than rows" in capsys.readouterr().err
