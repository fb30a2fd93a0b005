"""Rows of CSV: cells against the module `csv`, numbers against `json`, places of faults against counting by hand."""

import csv
import io
import json
import math

import pytest

from data_common.formats.csv_rows import as_number, delimiter_of
from data_common.formats.files import FileRows
from data_common.messages.errors import UserError
from data_common.messages.notes import note


def rows(tmp_path, content: str | bytes, name: str = "in.csv", **options) -> list[str]:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return [line.decode() for line in FileRows([str(tmp_path / name)], **options).lines()]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("a,b\n1,x\n-2,y\n", ['{"a":1,"b":"x"}', '{"a":-2,"b":"y"}']),
        (
            "a\n1.50\n123456789012345678901234567890\n1e5\n",
            ['{"a":1.50}', '{"a":123456789012345678901234567890}', '{"a":1e5}'],
        ),
        ("a,b\n1,x\n,y\n", ['{"a":1,"b":"x"}', '{"a":null,"b":"y"}']),  # an empty cell makes no floats
        ("a\n01234\n2\n", ['{"a":"01234"}', '{"a":"2"}']),
        ("a\n1\nNA\n", ['{"a":"1"}', '{"a":"NA"}']),
        ("a\n+5\n.5\n5.\n -.5 \n", ['{"a":5}', '{"a":0.5}', '{"a":5}', '{"a":-0.5}']),
        ("a\nTrue\nfalse\n", ['{"a":true}', '{"a":false}']),
        ("a\ntrue\n1\n", ['{"a":"true"}', '{"a":"1"}']),
        ("a\ninf\nnan\n", ['{"a":"inf"}', '{"a":"nan"}']),
        ("a\n2024-01-02\n", ['{"a":"2024-01-02"}']),
        ("a,b\n,\n,\n", ['{"a":null,"b":null}'] * 2),
        ('a,b\n"1","x, ""y""\nz"\n', ['{"a":1,"b":"x, \\"y\\"\\nz"}']),
        ("\ufeffa,b\r\n1,é\r\n", ['{"a":1,"b":"é"}']),
        ("a,b\r1,x\r2,y\r", ['{"a":1,"b":"x"}', '{"a":2,"b":"y"}']),
        ("a,b\n\n1,x\n \n2,y", ['{"a":1,"b":"x"}', '{"a":2,"b":"y"}']),
        ("a\n1\n\n2\n", ['{"a":1}', '{"a":2}']),
        ("a,b\n", []),
        ("a,a,,b\n1,2,3,4\n", ['{"a":1,"a.1":2,"Unnamed: 2":3,"b":4}']),
        ("a,a.1,a\n1,2,3\n", ['{"a":1,"a.1":2,"a.2":3}']),
        ('"a;b"\nx;y\n', ['{"a;b":"x;y"}']),
        ("a\n" + "x" * 300_000 + "\n", ['{"a":"' + "x" * 300_000 + '"}']),
        ("a,b\nx\u2028y,\x0b\n", ['{"a":"x\u2028y","b":"\\u000b"}']),
    ],
)
def test_rows(tmp_path, content, wanted):
    assert rows(tmp_path, content) == wanted


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\n1,a,b\n2,c,d\n", ":2: 3 cells under 2 names"),
        ("a,b\n1\n", ":2: 1 cells under 2 names"),
        ('a,b\n"x\ny",1\n\n2,3,4\n', ":5: 3 cells under 2 names"),
        ("a,b\n1,2,\n", ":2: 3 cells under 2 names"),
        ('a,b\n1,2\n"x"y,3\n', ":3: ',' expected after '\"'"),
        ('a,b\n1,2\n"x,3\n4,5\n', ":3: unexpected end of data"),
        (b"a,b\n1,2\n\xe9,3\n", ":3: invalid UTF-8"),
        ("a;b\n1;2\n", ":1: ',' does not part the names of columns, ';' does: --delimiter ';'"),
        ("\n\na;b\n1;2\n", ":3: ',' does not part the names of columns, ';' does"),
        ("a\tb\n1\t2\n", ":1: ',' does not part the names of columns, tab does: --delimiter tab"),
        ("a|b|c\n1|2|3\n", ":1: ',' does not part the names of columns, '|' does: --delimiter '|'"),
        ("sep=;\na;b\n", ":1: this line tells Excel the delimiter: delete it, and say --delimiter"),
        ("", " has no line with the names"),
        (b"\xff\xfea\x00", " is UTF-16 text: iconv"),
    ],
)
def test_faults_have_a_place(tmp_path, content, message):
    with pytest.raises(UserError) as raised:
        rows(tmp_path, content)
    assert str(raised.value).startswith(f"{tmp_path}/in.csv{message}")


def test_delimiters(tmp_path):
    assert rows(tmp_path, "a;b\n1;x,y\n", delimiter=";") == ['{"a":1,"b":"x,y"}']
    assert rows(tmp_path, "a\tb\n1\tx,y\n", "in.tsv") == ['{"a":1,"b":"x,y"}']
    with pytest.raises(UserError, match=r"in\.csv:1: ';' does not part the names of columns, ',' does"):
        rows(tmp_path, "a,b\n1,2\n", delimiter=";")
    with pytest.raises(UserError, match=r"in\.tsv:1: tab does not part the names of columns, ',' does"):
        rows(tmp_path, "a,b\n1,2\n", "in.tsv")
    assert [delimiter_of(word) for word in (";", "tab", "\\t", "|")] == [";", "\t", "\t", "|"]
    for word in ("", "::", '"', "\n"):
        with pytest.raises(UserError, match="one character, or tab"):
            delimiter_of(word)


def test_rows_that_quotes_may_have_joined_are_counted(tmp_path, capsys):
    note.cache_clear()
    content = 'id\ttext\n1\t20" pipe\n2\t"open\n3\tclose"\n4\tz\n'
    assert [json.loads(row)["id"] for row in rows(tmp_path, content, "in.tsv")] == [1, 2, 4]
    assert capsys.readouterr().out == f"note: {tmp_path}/in.tsv: 1 rows go over several lines, between quotes\n"


def test_one_type_for_a_column_of_all_files(tmp_path):
    contents = ["a,b\n1,2\n", "b,a\n3,x\n"]
    names = [str(tmp_path / f"{number}.csv") for number in range(2)]
    for name, content in zip(names, contents, strict=True):
        with open(name, "w") as file:
            file.write(content)
    assert list(FileRows(names).lines()) == [b'{"a":"1","b":2}', b'{"b":3,"a":"x"}']
    assert next(FileRows(names, most=1).lines()) == b'{"a":1,"b":2}'  # of a sample only its rows count


def test_what_csv_writes_is_read(tmp_path):
    cells = [["a", "b"], ['"', "\n"], ["\r\n", "x"], [',"', "''"], ["\x00", " y "], ["é\u2028", "\\"]]
    text = io.StringIO()
    csv.writer(text).writerows(cells)
    found = [list(json.loads(row).values()) for row in rows(tmp_path, text.getvalue())]
    assert found == cells[1:]


@pytest.mark.parametrize(
    "cell", ["0", "-0", "10", "1.0", "1e3", "1E-3", "-1.5e+10", "+7", ".5", "-.5e1", "5.", "5.e3", " 3 "]
)
def test_numbers_are_spelled_as_in_json(cell):
    assert math.isclose(json.loads(as_number(cell)), float(cell), abs_tol=0)


@pytest.mark.parametrize(
    "cell", ["007", "-01", "1,5", "1_000", "0x1f", "e5", ".", "-", "+", "1e", "--1", "nan", "inf", "\u0661", "1 2"]
)
def test_other_things_are_no_numbers(cell):
    assert as_number(cell) is None
