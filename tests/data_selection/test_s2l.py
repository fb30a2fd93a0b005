"""S2L: shares of sources and clusters are water-filling; one cluster is a random draw; invariances; a file."""

import json

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_selection.entry import STAGE
from data_selection.random.method import select as at_random
from data_selection.s2l.method import select

RNG = np.random.default_rng(0)


def trajectories(sizes, checkpoints=6):
    """Losses that fall in ways of their own, one for each cluster."""
    labels = RNG.permutation(np.repeat(np.arange(len(sizes)), sizes))
    falls = np.cumsum(RNG.random((len(sizes), checkpoints)) * 3, axis=1)
    return labels, -falls[labels] + RNG.normal(size=(len(labels), checkpoints)) / 100


def level(sizes, count):
    """Brute force: one row at a time to the smallest share that can grow."""
    shares = [0] * len(sizes)
    for _ in range(count):
        open_ones = [place for place, size in enumerate(sizes) if shares[place] < size]
        shares[min(open_ones, key=lambda place: (shares[place], -sizes[place]))] += 1
    return sorted(shares)


@pytest.mark.parametrize("k", [5, 23, 60, 99])
def test_clusters_of_very_different_size_give_equally_many_rows(k):
    sizes = [60, 25, 10, 5]
    labels, scores = trajectories(sizes)
    kept, facts = select(scores, np.zeros(100, int), np.arange(100), k=k, clusters=4)
    assert len(kept) == len(set(kept)) == k and facts == {"sources": 1, "clusters": 4}
    assert sorted(np.bincount(labels[kept], minlength=4).tolist()) == level(sizes, k)


def test_sources_first_then_clusters_within_them():
    labels, scores = trajectories([30, 30])
    group = np.array([0] * 4 + [1] * 20 + [2] * 36)
    kept, facts = select(scores, group, np.arange(60), k=30, clusters=2)
    assert np.bincount(group[kept]).tolist() == [4, 13, 13]
    assert facts == {"sources": 3, "clusters": 4}  # the small source is taken whole, without clusters
    for source in (1, 2):
        sizes = np.bincount(labels[group == source], minlength=2).tolist()
        assert sorted(np.bincount(labels[kept[group[kept] == source]], minlength=2).tolist()) == level(sizes, 13)


def test_one_cluster_is_a_random_draw():
    scores = RNG.normal(size=(50, 3))
    kept, _ = select(scores, np.zeros(50, int), np.arange(50), r=0.3, clusters=1, seed=4)
    assert sorted(kept) == sorted(at_random(np.arange(50), r=0.3, seed=4))


def test_the_order_of_checkpoints_their_sign_and_their_unit_do_not_matter():
    _, scores = trajectories([40, 20, 10])
    kept = select(scores, np.zeros(70, int), np.arange(70), k=12, clusters=3)[0].tolist()
    for same in (scores[:, ::-1], -scores, 1e300 * scores):
        assert sorted(select(same, np.zeros(70, int), np.arange(70), k=12, clusters=3)[0]) == sorted(kept)


def test_equal_trajectories_and_too_many_clusters():
    kept, facts = select(np.ones((9, 2)), np.zeros(9, int), np.arange(9), k=4, clusters=3)
    assert len(set(kept)) == 4 and facts["clusters"] == 1
    with pytest.raises(UserError, match="10 clusters of 9 rows"):
        select(np.ones((9, 2)), np.zeros(9, int), np.arange(9), k=4, clusters=10)
    with pytest.raises(UserError, match="exactly one of r and k"):
        select(np.ones((9, 2)), np.zeros(9, int), np.arange(9))


def test_a_file_and_a_row_with_fewer_losses(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"a": 3.0, "b": 2.0 - (i > 7), "id": i, "kind": "xy"[i > 8]} for i in range(12)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["in.jsonl", "out.jsonl", "s2l", "r=null", "k=8", "score_fields=[a,b]", "clusters=2"]
    assert main(STAGE, words) == 2
    assert "lower_is_better" in capsys.readouterr().err
    assert main(STAGE, [*words, "lower_is_better=[a,b]"]) == 0
    ids = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert sorted(ids) == ids and ids[-4:] == [8, 9, 10, 11] and len(ids) == 8
    assert main(STAGE, ["in.jsonl", "out2.jsonl", *words[2:], "lower_is_better=[a,b]", "group_field=kind"]) == 0
    manifest = json.loads((tmp_path / "out2.jsonl.manifest.json").read_text())
    assert manifest["facts"] == {"sources": 2, "clusters": 2}
    assert [(one["rows_in"], one["rows_out"]) for one in manifest["groups"]] == [(9, 5), (3, 3)]
    del rows[5]["b"]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(STAGE, [*words, "lower_is_better=[a,b]"]) == 2
    assert "in.jsonl:6: b is missing" in capsys.readouterr().err
