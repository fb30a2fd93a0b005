"""Thousands of mutated lines: the engine gives what an independent reading by the documented rules gives."""

import json
import math
import random
from decimal import Decimal

import numpy as np
import pytest

from data_common.messages.errors import UserError
from data_common.rows.columns import Column, number, scan
from data_common.rows.jsonl import open_source

ROWS = 10_000
FIELDS = ("score", "meta.score", "meta.source", "text")
COLUMNS = [number("score"), number("meta.score"), Column("group", ("meta.source",)), Column("characters", ("text",))]
BAD = object()

LONG = "9" * 5000
WHOLE = [
    '{"score": 1, "meta": {"score": 2.5, "source": "web"}, "text": "été \\u00e9 \\ud83d\\ude00"}',
    '{"text": ["a", "b"], "meta": {"source": true, "x": [1, {"y": null}], "score": -1e-3}, "score": 12345678901234567}',
    '{"meta.score": 7, "meta": {"source": 1.0}, "score": -0.0, "text": ""}',
    '{"meta": {"score": 0, "source": 1}, "score": 1E+2, "text": "\u2028 \x85", "huge": 1e999, "nan": NaN, "n": LONG}',
    '{"score": 3, "score": 4, "meta": 1, "meta": {"score": 1, "source": "book"}, "text": "a", "text": "bc"}',
    '{"score": 5, "lone": "\\ud800", "meta": {"score": 5, "source": "日本"}, "text": "x"}',
]
PIECES = [
    *(
        "null",
        "NaN",
        "-Infinity",
        "1e999",
        "-1e400",
        "9" * 400,
        "9" * 5000,
        "01",
        "1.",
        ".5",
        "true",
        '"1"',
        "[1]",
        "{}",
    ),
    *('"\\ud800"', '"\\udc00\\ud800"', '"\\x"', "\x00", "\x1f", "\t", "\r", "\n", "\ufeff", "\u2028", " ", "\x0b"),
    *(
        "{",
        "}",
        "[",
        "]",
        '"',
        ",",
        ":",
        "\\",
        "meta",
        "score",
        '"score": 6, ',
        '"meta": {"score": 1}, ',
        '"text": 3, ',
    ),
    *("[" * 100 + "]" * 100, "[" * 50_000 + "]" * 50_000, '{"a":' * 3000 + "1" + "}" * 3000),
]


def mutated(generator: random.Random) -> bytes:
    """One of the whole lines, with nothing, a little or much wrong."""
    line = generator.choice(WHOLE).replace("LONG", LONG)
    for _ in range(generator.choice([0, 0, 1, 1, 1, 2, 3])):
        begin = generator.randrange(len(line) + 1)
        end = min(len(line), begin + generator.choice([0, 0, 1, 2, 5, 20]))
        line = line[:begin] + generator.choice([*PIECES, "", line[begin:end]]) + line[end:]
    if generator.random() < 0.3:  # a value replaced whole: the line stays JSON
        old = generator.choice(["1", "2.5", "true", '"web"', "null", "[1", "1e999", "NaN", '"x"', "5", '"a"'])
        line = line.replace(old, generator.choice(PIECES), 1)
    encoded = line.encode()
    if generator.random() < 0.1:  # bytes, not characters
        begin = generator.randrange(len(encoded) + 1)
        encoded = encoded[:begin] + generator.randbytes(generator.choice([1, 1, 4])) + encoded[begin + 1 :]
    if generator.random() < 0.05:
        encoded = encoded[: generator.randrange(len(encoded) + 1)]
    return encoded + generator.choice([b"\n", b"\n", b"\n", b"\r\n", b"\n\n"])


def expected(line: bytes):
    """None for a blank line, BAD, or the values of COLUMNS: the rules of docs/data-format.md, with stdlib json."""
    line = line.removesuffix(b"\r")
    if not line.strip():
        return None
    try:
        row = json.loads(line.decode("utf-8"), parse_int=Decimal)
    except (ValueError, RecursionError):
        return BAD
    if not isinstance(row, dict):
        return BAD
    score, inner, source, text = (value_at(row, name) for name in FIELDS)
    parts = text if isinstance(text, list) else [text]
    good = is_number(score) and is_number(inner) and all(map(is_text, parts))
    good = good and (is_text(source) or isinstance(source, bool) or is_label_number(source))
    source = {True: "true", False: "false"}[source] if isinstance(source, bool) else source
    return (float(score), float(inner), source, len("\n".join(parts))) if good else BAD


def value_at(row, name):
    if name in row:
        return row[name]
    for part in name.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def is_number(value) -> bool:
    return isinstance(value, Decimal | float) and math.isfinite(float(value))


def is_label_number(value) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or (
        isinstance(value, Decimal) and len(str(value)) < 4300
    )


def is_text(value) -> bool:
    return isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value)


@pytest.fixture(scope="module")
def content():
    generator = random.Random(0)
    return b"\xef\xbb\xbf" + b"".join(mutated(generator) for _ in range(ROWS))


def spans(content):
    """(first byte, last byte, line) of every line, without the mark at the start of the file."""
    begin = 3
    for line in content[3:].split(b"\n"):
        yield begin, begin + len(line.removesuffix(b"\r")), line
        begin += len(line) + 1


def test_right_rows_or_none(content, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(content)
    read = [(begin, end, expected(line)) for begin, end, line in spans(content)]
    good = [one for one in read if one[2] is not BAD and one[2] is not None]
    assert 2000 < len(good) < ROWS - 2000  # enough of both
    with open_source(str(tmp_path / "in.jsonl")) as source:
        table = scan(source, COLUMNS, "drop")
        assert sum(source.dropped.values()) == sum(values is BAD for _, _, values in read)
    np.testing.assert_array_equal(table.rows.start, [begin for begin, _, _ in good])
    np.testing.assert_array_equal(table.rows.end, [end for _, end, _ in good])
    score, inner, code, length = table.columns.values()
    groups = {}
    wanted = [(s, i, groups.setdefault(g, len(groups)), n) for _, _, (s, i, g, n) in good]
    np.testing.assert_array_equal(np.column_stack([score, inner, code, length]), np.array(wanted, float))


def test_the_first_bad_line_is_named(content, tmp_path):
    lines = content[3:].split(b"\n")
    path = tmp_path / "in.jsonl"
    for first in range(0, len(lines), 100):
        part = lines[first : first + 100]
        path.write_bytes(b"\n".join(part))
        bad = next((n for n, line in enumerate(part, 1) if expected(line) is BAD), None)
        with open_source(str(path)) as source:
            if bad is None:
                scan(source, COLUMNS)
                continue
            with pytest.raises(UserError) as error:
                scan(source, COLUMNS)
        assert str(error.value).startswith(f"{path}:{bad}: ") and "\n" not in str(error.value)


def test_a_line_of_50_megabytes(tmp_path):
    long = b'{"score": 1, "text": "' + b"x" * 50_000_000 + b'"}'
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"score": 0}\n' + long + b"\n" + long[:-9] + b'\n{"score": 2}')
    with open_source(str(path)) as source:
        table = scan(source, [number("score")], "drop")
    assert table.columns[number("score")].tolist() == [0, 1, 2]
    assert (table.rows.end - table.rows.start).tolist() == [12, len(long), 12]
    with open_source(str(path)) as source, pytest.raises(UserError, match=r"in.jsonl:3: broken JSON"):
        scan(source, [number("score")])
