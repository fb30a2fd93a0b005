"""Saving a stream of rows: whole or nothing, going on after broken connections and killed runs, values of JSON."""

import datetime
import decimal
import gzip
import io
import json

import pyarrow.parquet
import pytest

from common import datasets_source, download
from common.download import Stream, save
from common.durable import publish
from common.errors import UserError
from common.files import clear_partials


class FakeRows:
    """Rows that can break off; remembers from where it was read."""

    def __init__(self, rows, breaks=()):
        self.rows, self.breaks = rows, list(breaks)  # breaks: numbers of rows before which the connection breaks
        self.place, self.starts = 0, []

    def __iter__(self):
        self.starts.append(self.place)
        while self.place < len(self.rows):
            if self.place in self.breaks:
                self.breaks.remove(self.place)
                raise ConnectionError("connection reset")
            self.place += 1
            yield self.rows[self.place - 1]

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]

    def skip(self, count):
        self.place = count
        return self


ROWS = [{"text": f"é{number}\n\u2028"} for number in range(25)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", (0, 0))
    monkeypatch.setattr(download, "SAVE_EVERY", 10)


def connection_error(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


def saved(rows, path, sample_size=None, **options):
    draft, count = save(Stream("set", rows, {"id": "set"}, **options), str(path), sample_size, connection_error)
    publish(draft, path)
    clear_partials(path)
    return count


def read(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


@pytest.mark.parametrize(("sample_size", "count"), [(None, 25), (2, 2), (25, 25), (99, 25)])
def test_sample_size_is_an_upper_bound(tmp_path, sample_size, count):
    rows = FakeRows(ROWS)
    assert saved(rows, tmp_path / "a" / "out.jsonl", sample_size) == count
    assert read(tmp_path / "a" / "out.jsonl") == ROWS[:count]
    assert rows.place == count  # none beyond the sample is asked for
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out.jsonl"]


def test_raw_lines_stay_as_they_are(tmp_path):
    lines = ['{"n": 1.50}', "", '{"n":2}\r']
    assert saved(FakeRows([{"text": line} for line in lines]), tmp_path / "out.jsonl.gz", raw=True) == 2
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()) == b'{"n": 1.50}\n{"n":2}\n'


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_broken_connection_is_gone_on_with(tmp_path, shuffled):
    rows = FakeRows(ROWS, breaks=[13, 13, 20])
    assert saved(rows, tmp_path / "out.jsonl", shuffled=shuffled) == 25
    assert rows.starts == [0, 13, 13, 20]
    assert read(tmp_path / "out.jsonl") == ROWS


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_later_call_goes_on(tmp_path, capsys, shuffled):
    (tmp_path / "out.jsonl").write_text("old\n")
    with pytest.raises(ConnectionError):
        saved(FakeRows(ROWS, breaks=[13] * 3), tmp_path / "out.jsonl", shuffled=shuffled)
    assert (tmp_path / "out.jsonl").read_text() == "old\n"
    with open(tmp_path / ".out.jsonl.partial", "ab") as file:
        file.write(b'{"half a li')  # of a run that was killed
    rows = FakeRows(ROWS)
    assert saved(rows, tmp_path / "out.jsonl", shuffled=shuffled) == 25
    assert rows.starts == [13]
    assert "going on after 13 rows" in capsys.readouterr().out
    assert read(tmp_path / "out.jsonl") == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_other_rows_begin_anew(tmp_path):
    with pytest.raises(ConnectionError):
        saved(FakeRows(ROWS, breaks=[13] * 3), tmp_path / "out.jsonl")
    rows = FakeRows(ROWS)
    assert saved(rows, tmp_path / "out.jsonl", sample_size=20) == 20
    assert rows.starts == [0]
    assert read(tmp_path / "out.jsonl") == ROWS[:20]


def test_any_other_error_is_not_tried_again(tmp_path):
    def rows():
        yield ROWS[0]
        raise ValueError("broken set")

    stream = FakeRows([])
    stream.__class__ = type("Broken", (FakeRows,), {"__iter__": lambda self: rows()})
    with pytest.raises(ValueError, match="broken set"):
        saved(stream, tmp_path / "out.jsonl")


def test_values_that_json_lacks(tmp_path):
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
    row = {"at": moment, "day": moment.date(), "price": decimal.Decimal("1.10"), "x": float("nan"), "b": b"\0"}
    saved(FakeRows([row]), tmp_path / "out.jsonl")
    wanted = {"at": "2026-01-02T03:04:05", "day": "2026-01-02", "price": "1.10", "x": None, "b": "AA=="}
    assert read(tmp_path / "out.jsonl") == [wanted]


def test_values_that_json_cannot_hold_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"set holds what JSON cannot: .*BytesIO"):
        saved(FakeRows([{"image": io.BytesIO()}]), tmp_path / "out.jsonl")


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(unfinished, line, stream):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download._Unfinished, "write", full)
    with pytest.raises(UserError, match=r"cannot write .*out.jsonl: No space left on device"):
        saved(FakeRows(ROWS), tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_local_file_that_changed_is_another_set(tmp_path, monkeypatch):
    identities = []
    monkeypatch.setattr(datasets_source, "save", lambda stream, *_: identities.append(stream.identity) or (tmp_path, 1))
    for content in ("text\na\n", "text\na\n", "text\nanother\n"):
        if not (tmp_path / "in.csv").exists() or (tmp_path / "in.csv").read_text() != content:
            (tmp_path / "in.csv").write_text(content)
        datasets_source.download_dataset(datasets_source.Wanted(str(tmp_path / "in.csv")), "out.jsonl")
    assert identities[0] == identities[1] != identities[2]


def test_numbers_that_json_lacks_are_counted(tmp_path, capsys):
    table = {"x": [1.0, float("nan"), None], "deep": [[float("inf")], [2.0, -float("inf")], []]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "in.parquet")
    draft, facts = datasets_source.download_dataset(
        datasets_source.Wanted(str(tmp_path / "in.parquet")), str(tmp_path / "out.jsonl")
    )
    assert read(draft) == [{"x": 1, "deep": [None]}, {"x": None, "deep": [2, None]}, {"x": None, "deep": []}]
    assert facts["not_finite_numbers"] == 3
    assert "note: 3 numbers are NaN or infinite, which JSON lacks: they are null" in capsys.readouterr().out


def test_numbers_that_json_lacks_are_counted_once_however_often_a_connection_breaks(tmp_path, capsys):
    rows = [{"x": float("nan") if number % 2 else 0.5} for number in range(25)]
    with pytest.raises(ConnectionError):
        saved(FakeRows(rows, breaks=[5, 13, 13, 13]), tmp_path / "out.jsonl")
    assert saved(FakeRows(rows, breaks=[17]), tmp_path / "out.jsonl") == 25
    assert "note: 12 numbers are NaN or infinite" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["in.json", "in.jsonl"])
def test_values_of_several_kinds_come_through_as_they_are(tmp_path, name):
    rows = [
        {"turns": [{"id": 1, "x": 1}, {"id": 2, "x": "x"}], "s": "1"},
        {"turns": [{"id": 3, "x": {"k": 1}}], "s": "{}"},
    ]
    (tmp_path / name).write_text(json.dumps(rows) if name == "in.json" else "".join(json.dumps(r) + "\n" for r in rows))
    draft, _ = datasets_source.download_dataset(
        datasets_source.Wanted(str(tmp_path / name)), str(tmp_path / "out.jsonl")
    )
    assert read(draft) == rows
