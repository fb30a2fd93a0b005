"""The promises about rows, over all selection and ordering methods that are found, on files that hypothesis makes."""

import gzip
import json

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_common.calls.cli import main
from data_common.calls.config import columns_of
from data_common.calls.stage import keys_for, load_method, method_names
from data_ordering.entry import STAGE as ORDERING
from data_selection.entry import STAGE as SELECTION

KEYS = {"top-k": ["k=4"], "threshold": ["threshold=1"], "token-budget": ["tokens=9"]}
KEYS["spt"] = ["domain=[all]", "domain_share=1", "tokens=30"]
SELECTIONS = [pytest.param(name, id=name) for name in method_names("data_selection")]
METHODS = [
    pytest.param(stage, name, id=f"{stage.name}/{name}")
    for stage in (SELECTION, ORDERING)
    for name in method_names(stage.name)
]
SCORES = st.integers(-2, 2) | st.floats(-1e9, 1e9)
OTHER = st.sampled_from([b"1.50", b"1E+2", b"9" * 30, '"é \u2028 日本"'.encode(), b'"\\u00e9"', b"NaN"])
ROWS = st.lists(st.tuples(SCORES, OTHER, st.integers(0, 20)), min_size=1, max_size=16)
BAD = st.lists(st.tuples(st.integers(0, 16), st.sampled_from([b"", b"{", b"[1]", b"\xff", b" "])))


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_common.files.environment.git_commit", lambda: None)
        yield


def promise(examples):
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def lines_of(rows):
    return [
        b'{"z": %s,"score":%s , "duplicate_count": %d, "text": "%s"}'
        % (other, json.dumps(score).encode(), length + 1, b"x" * (length + 1))
        for score, other, length in rows
    ]


def run(stage, source, target, name, *keys, better="higher"):
    """The lines that a method writes."""
    method, _ = load_method(stage, name)
    known = keys_for(stage, method)[0] if stage is SELECTION else ()
    said = {"direction": better, "lower_is_better": "[score]" if better == "lower" else "[]"}
    direction = [f"{key}={value}" for key, value in said.items() if key in known]
    assert main(stage, [str(source), str(target), name, *KEYS.get(name, []), *direction, *keys]) == 0
    return target.read_bytes().split(b"\n")[:-1]


@pytest.mark.parametrize(("stage", "name"), METHODS)
@promise(6)
@given(ROWS)
def test_lines_are_moved_and_never_changed(stage, name, tmp_path, rows):
    lines = lines_of(rows)
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\r\n".join(lines))
    out = run(stage, source, tmp_path / "out.jsonl", name)
    contract = load_method(stage, name)[0].__name__
    if contract in ("copies", "schedule"):
        assert set(out) <= set(lines)
    elif contract == "order":
        assert sorted(out) == sorted(lines)
    else:
        remaining = iter(lines)
        assert all(line in remaining for line in out)  # a subsequence: the input order is kept
    assert run(stage, source, source, name) == out  # IN may be OUT


@pytest.mark.parametrize(("stage", "name"), METHODS)
@promise(4)
@given(ROWS, st.integers(0, 16))
def test_shards_and_compression_make_no_difference(stage, name, tmp_path, rows, cut):
    lines = [line + b"\n" for line in lines_of(rows)]
    shards = tmp_path / "shards"
    shards.mkdir(exist_ok=True)
    (tmp_path / "in.jsonl").write_bytes(b"".join(lines))
    (shards / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[:cut])))
    (shards / "b.jsonl.zst").write_bytes(zstandard.compress(b"".join(lines[cut:])))
    out = run(stage, tmp_path / "in.jsonl", tmp_path / "out.jsonl", name)
    assert run(stage, shards, tmp_path / "out2.jsonl", name) == out


@pytest.mark.parametrize(("stage", "name"), METHODS)
@promise(4)
@given(ROWS, BAD)
def test_dropped_rows_leave_no_trace(stage, name, tmp_path, rows, bad):
    lines = lines_of(rows)
    (tmp_path / "in.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    for position, line in bad:
        lines.insert(position, line)
    (tmp_path / "bad.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    out = run(stage, tmp_path / "in.jsonl", tmp_path / "out.jsonl", name)
    assert run(stage, tmp_path / "bad.jsonl", tmp_path / "out2.jsonl", name, "on_bad_row=drop") == out


@pytest.mark.parametrize("name", SELECTIONS)
@promise(6)
@given(ROWS)
def test_a_lower_score_is_better_where_it_is_declared(name, tmp_path, rows):
    """A method that ranks keeps the same rows of negated scores under the other direction."""
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines_of(rows)))
    (tmp_path / "negated.jsonl").write_bytes(b"\n".join(lines_of([(-s, o, n) for s, o, n in rows])))
    kept = run(SELECTION, tmp_path / "in.jsonl", tmp_path / "out.jsonl", name)
    lower = run(SELECTION, tmp_path / "negated.jsonl", tmp_path / "out2.jsonl", name, better="lower")
    columns = columns_of(load_method(SELECTION, name)[0])
    if {"score", "scores"} & set(columns) and "higher_is_better" not in columns:
        assert [-json.loads(line)["score"] for line in lower] == [json.loads(line)["score"] for line in kept]
    run(SELECTION, tmp_path / "in.jsonl", tmp_path / "out3.jsonl", name, better="lower")


@pytest.mark.parametrize("name", ["top-r", "top-k", "token-budget"])
@promise(10)
@given(ROWS)
def test_what_is_kept_is_better_or_earlier(name, tmp_path, rows):
    rows = [(score, str(number).encode(), length) for number, (score, _, length) in enumerate(rows)]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines_of(rows)))
    kept = {json.loads(line)["z"] for line in run(SELECTION, tmp_path / "in.jsonl", tmp_path / "out.jsonl", name)}
    ranked = sorted(range(len(rows)), key=lambda row: -rows[row][0])
    assert kept == set(ranked[: len(kept)])
