"""Round robin: by hand, against a walk, and its limits."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_common.calls.cli import main
from data_selection.entry import STAGE
from data_selection.ranking import best
from data_selection.round_robin.method import picks, select


def test_by_hand():
    scores = np.array([[9.0, 9.0], [8.0, 1.0], [7.0, 8.0], [1.0, 7.0]])
    assert list(picks(scores, 4)) == [0, 2, 1, 3]  # both want row 0: the second query goes on to its next one
    assert select(scores, k=3)[0].tolist() == [0, 2, 1]
    assert select(scores, k=3)[1] == {"picks_of_each_query": [2, 1]}


@given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=1, max_size=12), st.integers(0, 15))
def test_against_a_walk(rows, k):
    scores, left, expected = np.array(rows, float), set(range(len(rows))), []
    while left and len(expected) < k:
        query = scores[:, len(expected) % 3]
        expected.append(min(left, key=lambda row: (-query[row], row)))
        left.remove(expected[-1])
    assert select(scores, k=k)[0].tolist() == expected


def test_one_query_is_the_best_rows_and_all_rows_are_all():
    scores = np.random.default_rng(0).random((50, 4))
    assert select(scores[:, :1], k=9)[0].tolist() == best(scores[:, 0], 9).tolist()
    assert sorted(select(scores, r=1.0)[0]) == list(range(50))


def test_queries_with_lists_of_their_own_get_the_same_number_of_rows():
    scores = np.eye(4)[np.arange(40) % 4] + np.random.default_rng(1).random((40, 4)) / 2
    picked, _ = select(scores, k=19)
    assert sorted(np.bincount(picked % 4).tolist()) == [4, 5, 5, 5]


def test_in_a_file(tmp_path):
    rows = [{"a": a, "b": b, "id": i} for i, (a, b) in enumerate([(9, 1), (8, 9), (7, 2), (1, 3)])]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [
        str(tmp_path / "in.jsonl"),
        str(tmp_path / "out.jsonl"),
        "round-robin",
        "r=null",
        "k=3",
        "score_fields=[a,b]",
    ]
    assert main(STAGE, [*words, "lower_is_better=[b]"]) == 0
    kept = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert kept == [0, 1, 2]  # a takes 0, b its second best 2, a takes 1
    assert json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["facts"] == {"picks_of_each_query": [2, 1]}
    assert main(STAGE, words) == 2
