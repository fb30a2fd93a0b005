"""What selection does around a method: nested fields, groups, rejects, parts."""

import json
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_common.calls.cli import main
from data_common.row_methods.row_method import whole_numbers
from data_selection.entry import STAGE


def rows_of(path):
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [json.loads(line) for file in files for line in file.read_text().split("\n")[:-1]]


def put(folder, rows):
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def select(folder, *words, expected=0, out="out.jsonl"):
    assert main(STAGE, [str(folder / "in.jsonl"), str(folder / out), *words, "direction=higher"]) == expected
    return rows_of(folder / out) if not expected else None


def manifest(path):
    return json.loads(path.with_name(path.name + ".manifest.json").read_text())


@pytest.mark.parametrize("given", [[True, False, True], [0.0, 2.0]])
def test_a_method_gives_row_numbers_and_nothing_that_looks_like_them(given):
    with pytest.raises(AssertionError, match="not row numbers"):
        whole_numbers(np.array(given))
    assert whole_numbers([]).tolist() == []
    assert whole_numbers([2, 0]).tolist() == [2, 0]


def test_a_dot_steps_into_an_object_unless_a_field_is_spelled_so(tmp_path):
    rows = [{"meta": {"a": {"s": 1}}}, {"meta": {"a": {"s": 3}}, "meta.a.s": 0}, {"meta": {"a": {"s": 2, "t": 1}}}]
    put(tmp_path, rows)
    assert select(tmp_path, "top-k", "k=2", "score_field=meta.a.s") == [rows[0], rows[2]]
    assert manifest(tmp_path / "out.jsonl")["score_in"]["1"] == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"meta": {}}, "meta.score is missing"),
        ({"meta": 3}, "meta.score is missing"),
        ({}, "meta.score is missing"),
        ({"meta": [{"score": 1}]}, "meta.score is missing"),
        ({"meta": {"score": "1"}}, "meta.score is a string, not a number"),
        ({"meta": {"score": 1}}, "lang is missing"),
        ({"meta": {"score": 1}, "lang": None}, "lang is null"),
        ({"meta": {"score": 1}, "lang": ["en"]}, "lang is a list, not a string, number or boolean"),
        ({"meta": {"score": 1}, "lang": "\ud800"}, "lang holds a lone surrogate"),
    ],
)
def test_bad_rows_name_the_whole_path(tmp_path, capsys, row, message):
    put(tmp_path, [{"meta": {"score": 1}, "lang": "en"}, row])
    select(tmp_path, "top-r", "score_field=meta.score", "group_field=lang", expected=2)
    assert f"in.jsonl:2: {message}" in capsys.readouterr().err


def test_one_field_cannot_be_two_things(tmp_path, capsys):
    put(tmp_path, [{"score": 1}])
    select(tmp_path, "top-r", "group_field=score", expected=2)
    assert "score cannot be a group column and another kind of column at once" in capsys.readouterr().err
    select(tmp_path, "top-r", "group_field=score.x", expected=2)
    assert "cannot be both a value and the object that holds another field" in capsys.readouterr().err


LABELS = st.sampled_from(["web", "book", "", "1", 1, 1.0, 2.5, 10**30, True, "true", False, 0])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), LABELS), min_size=1, max_size=25), st.sampled_from([0.0, 0.34, 0.5, 1.0]))
def test_groups_are_selected_each_on_their_own(tmp_path, rows, r):
    put(tmp_path, [{"score": score, "meta": {"lang": label}, "id": i} for i, (score, label) in enumerate(rows)])
    kept = select(tmp_path, "top-r", f"r={r}", "group_field=meta.lang")
    groups = defaultdict(list)
    for i, (score, label) in enumerate(rows):
        label = str(label).lower() if isinstance(label, bool) else label
        groups[label].append((-score, i))
    expected = [i for members in groups.values() for _, i in sorted(members)[: int(r * len(members))]]
    assert [row["id"] for row in kept] == sorted(expected)
    facts = manifest(tmp_path / "out.jsonl")
    assert facts["group_count"] == len(groups) == len(facts["groups"])
    assert [one["rows_in"] for one in facts["groups"]] == [len(members) for members in groups.values()]
    assert sum(one["rows_out"] for one in facts["groups"]) == len(kept) == facts["rows_out"]


def test_groups_in_the_summary_and_row_numbers_of_the_file(tmp_path, capsys):
    put(tmp_path, [{"score": 0, "lang": "en" if i % 3 else True} for i in range(30)])
    select(tmp_path, "top-r", "r=0.1", "group_field=lang")
    assert '2 groups: true 1 of 10, "en" 2 of 20' in capsys.readouterr().out
    both = select(tmp_path, "gumbel", "r=null", "k=10", "group_field=lang")
    put(tmp_path, [{"score": 0 if i % 3 else -1e6, "lang": "one"} for i in range(30)])
    alone = select(tmp_path, "gumbel", "r=null", "k=10", "group_field=lang")
    assert [row for row in both if row["lang"] == "en"] == [{"score": 0, "lang": "en"}] * len(alone)


def test_noise_of_a_row_is_the_same_inside_its_group(tmp_path):
    put(tmp_path, [{"score": 0, "lang": i % 2, "id": i} for i in range(40)])
    grouped = [row["id"] for row in select(tmp_path, "gumbel", "r=null", "k=5", "group_field=lang") if row["lang"]]
    put(tmp_path, [{"score": 0 if i % 2 else -1e6, "id": i} for i in range(40)])
    assert [row["id"] for row in select(tmp_path, "gumbel", "r=null", "k=5")] == grouped


@pytest.mark.parametrize("method", ["top-r", "top-k", "threshold", "gumbel", "quantile", "token-budget"])
def test_kept_and_rejected_rows_are_all_rows(tmp_path, method):
    rows = [{"score": i * 7 % 20, "text": "x" * i} for i in range(20)]
    put(tmp_path, rows)
    keys = {"top-k": ["k=3"], "threshold": ["threshold=4"], "token-budget": ["tokens=30"]}.get(method, [])
    kept = select(tmp_path, method, *keys, f"rejects={tmp_path / 'rejects.jsonl'}")
    rejected = rows_of(tmp_path / "rejects.jsonl")
    assert 0 < len(kept) < 20
    assert kept == [row for row in rows if row not in rejected]
    assert rejected == [row for row in rows if row not in kept]
    facts = manifest(tmp_path / "rejects.jsonl")
    assert (facts["rows_in"], facts["rows_out"]) == (20, len(rejected))


def test_a_rerun_is_skipped_while_both_outputs_are_there(tmp_path, capsys):
    put(tmp_path, [{"score": i} for i in range(9)])
    rejects = tmp_path / "rejects.jsonl.zst"
    for remove, skipped in ((None, False), (None, True), (rejects, False), (tmp_path / "out.jsonl", False)):
        if remove:
            remove.unlink()
        capsys.readouterr()
        select(tmp_path, "top-k", "k=3", f"rejects={rejects}")
        assert ("wrote" not in capsys.readouterr().out) == skipped
    select(tmp_path, "top-k", "k=3", f"rejects={tmp_path}/./out.jsonl", expected=2)
    assert "rejects and OUT are the same file" in capsys.readouterr().err


def test_parts_are_the_file_and_carry_the_direction(tmp_path):
    put(tmp_path, [{"score": i * 5 % 11} for i in range(11)])
    whole = select(tmp_path, "top-r", "r=0.7")
    assert select(tmp_path, "top-r", "r=0.7", "rows_per_shard=3", out="parts") == whole
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [f"part-0000{i}.jsonl" for i in range(3)]
    words = [str(tmp_path / "parts"), str(tmp_path / "parts"), "top-k", "k=2", "direction=higher", "rows_per_shard=1"]
    assert main(STAGE, words) == 0  # IN may be OUT
    assert rows_of(tmp_path / "parts") == [row for row in whole if row["score"] > 8]
