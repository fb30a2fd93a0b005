"""JSON lines to Parquet by the command, read back by pyarrow and by the command."""

import json

import pyarrow.parquet as pq
import pytest

import utils
from data_common.formats import parquet_file

ROWS = [
    {"zip": "01234", "na": "NA", "when": "2020-01-01 00:00:00", "n": 2**62, "x": 1, "flag": True, "meta": {"a": [1]}},
    {"zip": "1", "na": "ä\u2028\n", "when": "no", "n": -1, "x": 0.1, "flag": False, "meta": {"b": "c"}, "new": [None]},
    {"zip": None, "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]},
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def convert(source, target, *words):
    return utils.main(["--content", "dataset", "--id", source, "--save-dir", target, *words])


def write(name, rows):
    with open(name, "w") as file:
        file.write("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def without_nulls(value):
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("block", [1, 10**6])
def test_rows_come_back_with_null_for_what_they_lack(folder, monkeypatch, block):
    monkeypatch.setattr(parquet_file, "BLOCK", block)
    write("in.jsonl", ROWS)
    assert convert("in.jsonl", "out.parquet") == 0
    table = pq.read_table("out.parquet")
    assert list(map(without_nulls, table.to_pylist())) == list(map(without_nulls, ROWS))
    assert str(table.schema.field("when").type) == str(table.schema.field("zip").type) == "string"
    assert convert("out.parquet", "back.jsonl") == 0
    back = [json.loads(line) for line in (folder / "back.jsonl").read_text().split("\n")[:-1]]
    assert list(map(without_nulls, back)) == list(map(without_nulls, ROWS))
    assert set(back[0]) == {name for row in ROWS for name in row}
    manifest = json.loads((folder / "out.parquet.manifest.json").read_text())
    assert manifest["rows"] == 3


def test_a_sample_of_csv(folder):
    (folder / "in.csv").write_text("zip,n\n01234,1\n2,2\n3,3\n")
    assert convert("in.csv", "out.parquet", "--sample-size", "2") == 0
    assert pq.read_table("out.parquet").to_pylist() == [{"zip": "01234", "n": 1}, {"zip": "2", "n": 2}]


@pytest.mark.parametrize("block", [1, 10**6])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"a": 1}, {"a": "x"}], "several types"),
        ([{"a": {"b": 1}}, {"a": {"b": [2]}}], "several types"),
        ([{"a": 2**64}], "a cannot be a column of Parquet"),
        ([{"a": 1}, "{"], "row 2 is broken JSON"),
        ([{"a": 1}, "[1]"], "row 2 is no object"),
        ([{"a": {}}], "Parquet cannot hold these rows"),
        ([{"a": 2**60 + 1}, {"a": 0.5}], "a cannot be a column of Parquet"),
        ([], "there are no rows"),
    ],
)
def test_what_parquet_cannot_hold(folder, monkeypatch, capsys, rows, message, block):
    monkeypatch.setattr(parquet_file, "BLOCK", block)
    write("in.jsonl", rows)
    assert convert("in.jsonl", "out.parquet") == 2
    error = capsys.readouterr().err
    assert message in error or (message == "several types" and "has one type" in error), error
    assert not (folder / "out.parquet").exists()
