"""Saving a stream of rows: whole or nothing, going on after broken connections and killed runs, values of JSON."""

import datetime
import decimal
import gzip
import io
import json

import pyarrow.parquet
import pytest

from data_common.files.atomic import clear_partials
from data_common.files.durable import publish
from data_common.formats.files import FileRows
from data_common.hub import datasets_source, download
from data_common.hub.download import DatasetRows, save
from data_common.messages.errors import UserError


class FakeRows:
    """Rows of an IterableDataset that can break off; `starts`: the rows with which readings began."""

    def __init__(self, rows, breaks=()):
        self.rows, self.breaks = rows, list(breaks)  # breaks: numbers of rows before which the connection breaks
        self.place, self.starts = 0, []

    def skip(self, count):
        return self._from(count)

    def __iter__(self):
        return self._from(0)

    def _from(self, start):
        self.starts.append(start)
        for number in range(start, len(self.rows)):
            if number in self.breaks:
                self.breaks.remove(number)
                raise ConnectionError("connection reset")
            self.place = number
            yield self.rows[number]


ROWS = [{"text": f"é{number}\n\u2028"} for number in range(25)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", (0, 0))
    monkeypatch.setattr(download, "SAVE_EVERY", 10)


def connection_error(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


def saved(rows, path, sample_size=None, **options):
    rows = rows if isinstance(rows, FileRows) else DatasetRows("set", rows, **options)
    draft, facts = save(rows, str(path), {"id": "set"}, sample_size, connection_error)
    publish(draft, path)
    clear_partials(path)
    return facts["rows"]


def read(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


@pytest.mark.parametrize(("sample_size", "count"), [(None, 25), (2, 2), (25, 25), (99, 25)])
def test_sample_size_is_an_upper_bound(tmp_path, sample_size, count):
    rows = FakeRows(ROWS)
    assert saved(rows, tmp_path / "a" / "out.jsonl", sample_size) == count
    assert read(tmp_path / "a" / "out.jsonl") == ROWS[:count]
    assert rows.place == count - 1  # none beyond the sample is asked for
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out.jsonl"]


def test_lines_of_files_stay_as_they_are(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b'\xef\xbb\xbf{"n": 1.50}\n\n{"n":2}\r\n')
    rows = FileRows([str(tmp_path / "in.jsonl")])
    assert saved(rows, tmp_path / "out.jsonl.gz") == 2
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()) == b'{"n": 1.50}\n{"n":2}\n'


def test_a_broken_connection_is_gone_on_with(tmp_path):
    rows = FakeRows(ROWS, breaks=[13, 13, 20])
    assert saved(rows, tmp_path / "out.jsonl") == 25
    assert rows.starts == [0, 13, 13, 20]
    assert read(tmp_path / "out.jsonl") == ROWS


def test_a_later_call_goes_on(tmp_path, capsys):
    (tmp_path / "out.jsonl").write_text("old\n")
    with pytest.raises(ConnectionError):
        saved(FakeRows(ROWS, breaks=[13] * 3), tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "old\n"
    with open(tmp_path / ".out.jsonl.partial", "ab") as file:
        file.write(b'{"half a li')  # of a run that was killed
    rows = FakeRows(ROWS)
    assert saved(rows, tmp_path / "out.jsonl") == 25
    assert rows.starts == [13]
    assert "going on after 13 rows" in capsys.readouterr().out
    assert read(tmp_path / "out.jsonl") == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_other_rows_are_downloaded_from_the_start(tmp_path):
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

    with pytest.raises(ValueError, match="broken set"):
        saved(rows(), tmp_path / "out.jsonl")


def test_values_that_json_lacks(tmp_path):
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
    row = {"at": moment, "day": moment.date(), "price": decimal.Decimal("1.10"), "x": float("nan"), "b": b"\0"}
    saved(FakeRows([row]), tmp_path / "out.jsonl")
    wanted = {"at": "2026-01-02T03:04:05", "day": "2026-01-02", "price": "1.10", "x": None, "b": "AA=="}
    assert read(tmp_path / "out.jsonl") == [wanted]


def test_values_that_json_cannot_hold_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"set holds what JSON cannot: image: .*BytesIO"):
        saved(FakeRows([{"image": io.BytesIO()}]), tmp_path / "out.jsonl")


@pytest.mark.parametrize("bad", [3, 12, 24])
def test_a_row_that_cannot_be_written_is_met_again_by_every_call(tmp_path, bad):
    rows = [{"n": number if number != bad else io.BytesIO()} for number in range(25)]
    for _ in range(3):
        with pytest.raises(UserError, match="set holds what JSON cannot: n: "):
            saved(FakeRows(rows), tmp_path / "out.jsonl")
        assert not (tmp_path / "out.jsonl").exists()
    assert saved(FakeRows([*rows[:bad], {"n": bad}, *rows[bad + 1 :]]), tmp_path / "out.jsonl") == 25
    assert [row["n"] for row in read(tmp_path / "out.jsonl")] == list(range(25))


@pytest.mark.parametrize("fails_at", [0, 9, 13, 20, 24])
@pytest.mark.parametrize("of_files", [False, True])
def test_a_row_that_did_not_reach_the_disk_is_written_by_the_next_call(tmp_path, monkeypatch, fails_at, of_files):
    for number in range(5):  # files of five rows
        lines = [json.dumps(row) + "\n" for row in ROWS[number * 5 : number * 5 + 5]]
        (tmp_path / f"{number}.json").write_text("".join(lines))
    names, write = [str(path) for path in sorted(tmp_path.glob("*.json"))], download._Unfinished.write

    def fail(unfinished, line, place):
        if unfinished.rows == fails_at:
            raise OSError(28, "No space left on device")
        write(unfinished, line, place)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="No space left"):
        patch.setattr(download._Unfinished, "write", fail)
        saved(FileRows(names) if of_files else FakeRows(ROWS), tmp_path / "out.jsonl")
    assert saved(FileRows(names) if of_files else FakeRows(ROWS), tmp_path / "out.jsonl") == 25
    assert read(tmp_path / "out.jsonl") == ROWS


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(unfinished, line, place):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download._Unfinished, "write", full)
    with pytest.raises(UserError, match=r"cannot write .*out.jsonl: No space left on device"):
        saved(FakeRows(ROWS), tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_local_file_that_changed_is_another_set(tmp_path, monkeypatch):
    identities = []
    monkeypatch.setattr(
        datasets_source, "save", lambda _, __, identity, *___: identities.append(identity) or (tmp_path, {})
    )
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
