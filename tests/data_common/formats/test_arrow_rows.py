"""Arrow files and streams as rows; spreadsheets refused."""

import datetime
import json

import pyarrow as pa
import pyarrow.feather
import pytest

import utils
from data_common.formats.files import FileRows
from data_common.messages.errors import UserError

COLUMNS = {
    "zip": ["01234", None, "99999"],
    "text": ["a", "ä\n\u2028b", None],
    "n": [2**62, 0, None],
    "x": [0.1, None, -1e300],
    "at": [datetime.datetime(2020, 1, 2, 3, 4, 5, 6), None, datetime.datetime(1969, 1, 1)],
    "turns": [[{"role": "user", "content": "q"}], [], None],
    "kind": pa.array(["one", "two", "one"]).dictionary_encode(),
}
EXPECTED = [
    {"zip": "01234", "text": "a", "n": 2**62, "x": 0.1, "at": "2020-01-02T03:04:05.000006",
     "turns": [{"role": "user", "content": "q"}], "kind": "one"},
    {"zip": None, "text": "ä\n\u2028b", "n": 0, "x": None, "at": None, "turns": [], "kind": "two"},
    {"zip": "99999", "text": None, "n": None, "x": -1e300, "at": "1969-01-01T00:00:00", "turns": None, "kind": "one"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, table):
    if name.endswith(".feather"):
        pyarrow.feather.write_feather(table, name, compression="zstd")
        return
    make = pa.ipc.new_stream if name.startswith("stream") else pa.ipc.new_file
    with make(name, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


@pytest.mark.parametrize("name", ["stream.arrow", "file.arrow", "file.feather"])
def test_rows_are_those_of_the_table_wherever_one_begins(name):
    write(name, pa.table(COLUMNS))
    for skip in range(4):
        rows = FileRows([name])
        assert [json.loads(line) for line in rows.lines(skip, (0, skip))] == EXPECTED[skip:]


def test_many_rows_and_the_command(folder):
    write("stream.arrow", pa.table({"id": range(5000)}))
    assert [json.loads(line)["id"] for line in FileRows(["stream.arrow"]).lines(0, (0, 2500))] == [*range(2500, 5000)]
    assert utils.main(["--content", "dataset", "--id", "stream.arrow", "--save-dir", "out.jsonl"]) == 0
    assert len((folder / "out.jsonl").read_text().split("\n")) == 5001


def test_a_set_that_the_library_saved(folder):
    import datasets

    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk("saved")
    assert utils.main(["--content", "dataset", "--id", "saved", "--save-dir", "out.jsonl"]) == 0
    assert (folder / "out.jsonl").read_text() == '{"text":"a"}\n{"text":"b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.arrow", b'{"id": 1}\n', "cannot read x.arrow: it is no Arrow file"),
        ("x.arrow", b"PAR1", "x.arrow is a Parquet file: call it x.parquet"),
        ("x.arrow", b"ARROW1\0\0" + b"\0" * 40, "cannot read x.arrow: "),
        ("x.arrow", b"\xff\xff\xff\xff\x10", "cannot read x.arrow: "),
        ("x.feather", b"FEA1", "x.feather is a Feather file of the first version: write it as Parquet"),
        ("x.jsonl", b"ARROW1\0\0", "x.jsonl is an Arrow file: call it x.jsonl.arrow"),
    ],
)
def test_other_content_is_told(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        list(FileRows([name]).lines())
    assert str(error.value).startswith(message)


def test_two_columns_of_one_name():
    write("file.arrow", pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]))
    with pytest.raises(UserError, match=r"more than one column called a$"):
        list(FileRows(["file.arrow"]).lines())


@pytest.mark.parametrize("name", ["table.xlsx", "folder/Table.XLS", "sheet.ods"])
def test_spreadsheets_are_refused_by_name(name, capsys):
    assert utils.main(["--content", "dataset", "--id", name, "--save-dir", "out.jsonl"]) == 2
    message = f"error: {name} is a spreadsheet, which is not read: save each sheet as .csv ("
    assert message in capsys.readouterr().err
