"""Rows of Parquet: values worked out by hand, one type at a time; faults by file, column and row."""

import datetime
import decimal
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import data_common.formats.parquet_rows
import utils
from data_common.formats.files import FileRows
from data_common.formats.parquet_rows import parquet_rows
from data_common.messages.errors import UserError


def rows(table: pa.Table, skip: int = 0, **options) -> list[bytes]:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return list(parquet_rows(io.BytesIO(file.getvalue()), "in.parquet", skip))


def nested(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays([0, len(values)], values)


MOMENT = 1_704_164_645_123_456_789  # 2024-01-02 03:04:05.123456789


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (pa.array([MOMENT], pa.timestamp("ns")), '"2024-01-02T03:04:05.123456789"'),
        (pa.array([MOMENT], pa.timestamp("ns", "UTC")), '"2024-01-02T03:04:05.123456789Z"'),
        (pa.array([MOMENT], pa.timestamp("ns", "Europe/Berlin")), '"2024-01-02T04:04:05.123456789+01:00"'),
        (pa.array([MOMENT // 1000 * 1000], pa.timestamp("ns")), '"2024-01-02T03:04:05.123456"'),
        (pa.array([MOMENT // 10**9], pa.timestamp("s")), '"2024-01-02T03:04:05"'),
        (pa.array([datetime.date(2024, 1, 2)]), '"2024-01-02"'),
        (pa.array([11_045_000_000_001], pa.time64("ns")), '"03:04:05.000000001"'),
        (pa.array([datetime.time(3, 4, 5)]), '"03:04:05"'),
        (pa.array([1], pa.duration("ns")), '"P0DT0H0M0.000000001S"'),
        (pa.array([[("a", 1), ("b", None)]], pa.map_(pa.string(), pa.int64())), '{"a":1,"b":null}'),
        (pa.array([[(1, "x")]], pa.map_(pa.int64(), pa.string())), '{"1":"x"}'),
        (pa.array(['{"a": 1.50}'], pa.json_()), '{"a": 1.50}'),
        (nested(pa.array(["[1]", None, '"x"'], pa.json_())), '[[1],null,"x"]'),
        (pa.StructArray.from_arrays([pa.array(["1"], pa.json_()), pa.array(["1"])], ["j", "s"]), '{"j":1,"s":"1"}'),
        (pa.array([{"a": None, "b": [{"c": 1}]}]), '{"a":null,"b":[{"c":1}]}'),
        (pa.array([decimal.Decimal("1.10")]), '"1.10"'),
        (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
        (pa.array(np.array([1.5], np.float16)), "1.5"),
        (pa.array([float("nan")]), "null"),
        (pa.array([b"\0"]), '"AA=="'),
        (pa.array(["x"]).dictionary_encode(), '"x"'),
        (pa.array(["x"], pa.large_string()), '"x"'),
        (pa.array([2**53 + 1]), "9007199254740993"),
        (pa.nulls(1), "null"),
    ],
)
def test_values(array, wanted):
    assert rows(pa.table({"c": array})) == [f'{{"c":{wanted}}}'.encode()]
    assert rows(pa.table({"c": pa.concat_arrays([pa.nulls(1, array.type), array])}))[0] == b'{"c":null}'


def test_times_of_96_bits_reach_beyond_nanoseconds():
    years = [datetime.datetime(1, 1, 1), None, datetime.datetime(9999, 12, 31, 23, 59, 59)]
    old = rows(pa.table({"t": pa.array(years, pa.timestamp("us"))}), use_deprecated_int96_timestamps=True)
    assert old == [b'{"t":"0001-01-01T00:00:00"}', b'{"t":null}', b'{"t":"9999-12-31T23:59:59"}']
    fine = rows(pa.table({"t": pa.array([MOMENT], pa.timestamp("ns"))}), use_deprecated_int96_timestamps=True)
    assert fine == [b'{"t":"2024-01-02T03:04:05.123456789"}']


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pa.array([0, 10**14], pa.timestamp("s")), "in.parquet: column c, row 2 cannot be written as JSON"),
        (
            pa.array([[], [("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64())),
            "in.parquet: column c, row 2 .*duplicate",
        ),
        (pa.array([b"a", b"\xff"]).view(pa.string()), "in.parquet: column c, row 2 .*utf-8"),
        (pa.array(["1", "{"], pa.json_()), "in.parquet: column c, row 2 cannot"),
        (pa.array([[(True, 1)]], pa.map_(pa.bool_(), pa.int64())), "in.parquet, row 1, holds what JSON cannot: c: "),
    ],
)
def test_what_json_cannot_hold_is_named(array, message):
    with pytest.raises(UserError, match=message):
        rows(pa.table({"c": array}))


def test_columns_of_one_name_are_named():
    with pytest.raises(UserError, match=r"in\.parquet has more than one column called c"):
        rows(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["c", "c"]))


@pytest.mark.parametrize("batch", [1, 400, 2**24])  # of one row, of some, of all
@pytest.mark.parametrize("skip", [0, 1, 299, 300, 301, 599, 700, 999, 1000])
def test_rows_are_skipped(monkeypatch, skip, batch):
    monkeypatch.setattr(data_common.formats.parquet_rows, "BATCH", batch)
    times = pa.array([datetime.datetime(1 + number, 1, 1) for number in range(1000)], pa.timestamp("us"))
    table = pa.table({"n": list(range(1000)), "t": times})
    found = list(map(json.loads, rows(table, skip, row_group_size=300, use_deprecated_int96_timestamps=True)))
    assert [row["n"] for row in found] == list(range(skip, 1000))
    assert [row["t"] for row in found] == [f"{1 + number:04}-01-01T00:00:00" for number in range(skip, 1000)]


def test_shards_need_not_have_the_same_columns(tmp_path):
    tables = [{"t": ["a"], "n": [1]}, {"t": pa.nulls(1), "n": [2.5]}, {"n": ["x"]}, {"n": [[1]], "t": ["d"]}]
    for number, columns in enumerate(tables):
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet")
    found = list(FileRows([str(path) for path in sorted(tmp_path.iterdir())]).lines())
    assert found == [b'{"t":"a","n":1}', b'{"t":null,"n":2.5}', b'{"n":"x"}', b'{"n":[1],"t":"d"}']


@pytest.mark.parametrize("cut", [4, 8, 100, -8, -1])
def test_a_file_that_is_cut_off(tmp_path, cut):
    pq.write_table(pa.table({"t": ["a" * 1000]}), tmp_path / "in.parquet", compression="none")
    (tmp_path / "in.parquet").write_bytes((tmp_path / "in.parquet").read_bytes()[:cut])
    with pytest.raises(UserError, match=r"cannot read .*in\.parquet: "):
        list(FileRows([str(tmp_path / "in.parquet")]).lines())


def test_a_failing_call_ends_as_such_and_fails_again(tmp_path):
    """Threads of pyarrow that still read when the interpreter ended aborted it now and then."""
    times = pa.array([None] * 7 + [10**14] * 19_993, pa.timestamp("s"))
    pq.write_table(pa.table({"t": times, "text": ["x" * 300] * 20_000}), tmp_path / "in.parquet", row_group_size=500)
    words = [utils.__file__, "--content", "dataset", "--id", "in.parquet", "--save-dir", "out.jsonl"]
    for _ in range(3):
        result = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 2
        assert result.stderr.startswith("error: in.parquet: column t, row 8 cannot be written as JSON")
        assert not list(tmp_path.glob("out*"))


def test_pandas(tmp_path):
    times = pd.to_datetime([None, None, "2024-01-02 03:04:05.123456789", None, None]).astype("datetime64[ns]")
    frame = pd.DataFrame({"text": [f"r{number}" for number in range(5)], "crawled": times})
    frame.to_parquet(tmp_path / "in.parquet")
    words = ["--content", "dataset", "--id", str(tmp_path / "in.parquet"), "--save-dir", str(tmp_path / "out.jsonl")]
    assert utils.main(words) == 0
    found = [json.loads(line) for line in Path(tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert [row["text"] for row in found] == ["r0", "r1", "r2", "r3", "r4"]
    assert [row["crawled"] for row in found] == [None, None, "2024-01-02T03:04:05.123456789", None, None]
