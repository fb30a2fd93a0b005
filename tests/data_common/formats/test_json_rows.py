"""Rows of JSON files keep the bytes that they have there. The oracle is `json`, which reads file and lines alike."""

import io
import json
import random

import pytest

from data_common.formats import json_rows
from data_common.messages.errors import UserError


def rows(content: bytes) -> list[bytes]:
    return list(json_rows.json_rows(io.BufferedReader(io.BytesIO(content)), "in.json"))


ITEMS = [
    '{"text": "a", "id": 18446744073709551623}',
    '{"id":123456789012345678901234567890, "x": 1.50, "y": 1E400, "z": -0}',
    r'{"text": "He said \"no\".\n", "lone": "\ud83d", "pair": "\ud83d\ude00", "slash": "\/"}',
    '{"text": ["two", "parts"], "meta": {"score": 0.5}, "none": null}',
    '{"text": "2024-01-02", "t": "2024-01-02T03:04:05Z"}',
    '{"meta": {"score": 1, "src": "w"}, "meta": 2}',
    '{"text": "], [ }{ \u2028 \u0085 é 😀", "x": NaN}',
    "{}",
]


@pytest.mark.parametrize("block", [1, 7, 64, 2**20])
@pytest.mark.parametrize("form", ["[{}]", "[\n{}\n]\n", "\ufeff [ {} ] "])
def test_items_of_a_list_stay_as_they_are(monkeypatch, block, form):
    monkeypatch.setattr(json_rows, "BLOCK", block)
    content = form.replace("{}", ", ".join(ITEMS)).encode()
    assert [row.decode() for row in rows(content)] == ITEMS


@pytest.mark.parametrize("block", [1, 64, 2**20])
@pytest.mark.parametrize("between", ["\n", "\r\n", " ", "\n\n"])
def test_objects_one_after_another(monkeypatch, block, between):
    monkeypatch.setattr(json_rows, "BLOCK", block)
    assert [row.decode() for row in rows(between.join(ITEMS).encode())] == ITEMS


def test_rows_that_go_over_several_lines_become_one():
    values = [{"text": "a\n  b", "n": [1, {"x": "\\"}]}, {"text": "", "n": {}}]
    for content in (json.dumps(values, indent=2), "\n".join(json.dumps(value, indent="\t") for value in values)):
        found = rows(content.encode())
        assert [json.loads(row) for row in found] == values
        assert not any(set(row) & set(b"\r\n\t") for row in found)


def test_items_that_are_no_objects_are_texts(monkeypatch):
    monkeypatch.setattr(json_rows, "BLOCK", 3)
    assert rows(b'["a", 12345, -1.50e3 , true, null, ["x"]]') == [
        b'{"text": %s}' % value for value in (b'"a"', b"12345", b"-1.50e3", b"true", b"null", b'["x"]')
    ]


@pytest.mark.parametrize("content", [b"", b" \n", b"[]", b"[ ]\n", b"\xef\xbb\xbf"])
def test_nothing_is_no_rows(content):
    assert rows(content) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1},\n{"a": }]', "in.json:2: broken JSON: Expecting value"),
        (b'[{"a": 1},\n{"a": 2}', "in.json:2: broken JSON: no comma or ] behind an item"),
        (b'[{"a": 1}\n{"a": 2}]', "in.json:2: broken JSON: no comma or ]"),
        (b'[{"a": 1}, ]', "in.json:1: broken JSON: Expecting value"),
        (b'[{"a": 1}]\n\n]', "in.json:3: broken JSON: more behind the list"),
        (b'{"a": 1}\n\n5\n', "in.json:3: broken JSON: neither an object nor a list"),
        (b'{"a": 1}\n{"a": "x', "in.json:2: broken JSON: Unterminated string"),
        (b'[{"a": "x\ny"}]', "in.json:1: broken JSON: Invalid control character"),
        (b'{"a": 1}\n{"a": "\xff"}', "in.json:2: invalid UTF-8"),
        (b'{"a": "\xed\xa0\xbd"}', "in.json:1: invalid UTF-8"),
        (b'{"a": 1}\n{"a": "\xc3', "in.json:2: invalid UTF-8"),
        (b"[" * 100_000, "in.json:1: nested too deeply"),
        (b"text", "in.json:1: broken JSON: neither"),
    ],
)
@pytest.mark.parametrize("block", [5, 2**20])
def test_what_is_no_json_has_a_place(monkeypatch, content, message, block):
    monkeypatch.setattr(json_rows, "BLOCK", block)
    with pytest.raises(UserError) as raised:
        rows(content)
    assert str(raised.value).startswith(message)


def test_a_fault_at_the_beginning_is_known_before_the_file_is_read():
    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            self.blocks = getattr(self, "blocks", 0) + 1
            assert self.blocks < 100
            buffer[:] = (b"[{x}," + b"{}," * len(buffer))[: len(buffer)]
            return len(buffer)

    with pytest.raises(UserError, match=r"in\.json:1: broken JSON: Expecting property name"):
        list(json_rows.json_rows(io.BufferedReader(Endless()), "in.json"))


def test_values_made_at_random(monkeypatch):
    random_source = random.Random(0)

    def value(depth):
        kind = random_source.randrange(7 if depth else 5)
        if kind < 5:
            text = "".join(random_source.choices('ab"\\\n\r\t/{}[],:é\u2028😀', k=random_source.randrange(9)))
            return [None, True, random_source.randrange(-(10**30), 10**30), random_source.random() * 1e9, text][kind]
        parts = [value(depth - 1) for _ in range(random_source.randrange(4))]
        return parts if kind == 5 else {f"k{number}": part for number, part in enumerate(parts)}

    for _ in range(200):
        monkeypatch.setattr(json_rows, "BLOCK", random_source.choice([1, 2, 3, 10, 1000]))
        values = [{"v": value(3)} for _ in range(random_source.randrange(1, 5))]
        indent, ascii_only = random_source.choice([None, 0, 2]), random_source.random() < 0.5
        content = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
        assert [json.loads(row) for row in rows(content)] == values


def test_lines_are_not_read():
    content = b'\xef\xbb\xbf{"a": 1.50}\r\n\n \n{broken\n\xff\xfe\n{"b": 2}'
    lines = list(json_rows.json_lines(io.BufferedReader(io.BytesIO(content)), "in.jsonl"))
    assert lines == [b'{"a": 1.50}', b"{broken", b"\xff\xfe", b'{"b": 2}']


def test_a_list_that_is_called_lines_is_one():
    content = b'\n[\n{"a": 1},\n{"a": 2}\n]\n'
    assert list(json_rows.json_lines(io.BufferedReader(io.BytesIO(content)), "in.jsonl")) == [b'{"a": 1}', b'{"a": 2}']
