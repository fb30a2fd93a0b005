"""Rows are sacred: every line that goes through comes out byte for byte; every bad line has a place."""

import gzip
import json
import os
import resource

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_common.rows import columns, jsonl, write_rows
from data_common.rows.json_line import (
    BadRow,
    Decoder,
    Number,
    Text,
    add_field,
    add_fields,
    document_text,
    replace_field,
    replace_fields,
)
from data_ordering.entry import STAGE as ORDERING
from data_selection.entry import STAGE as SELECTION

ODD_LINES = [
    b'{"score": 2, "big": 123456789012345678901234567890, "float": 1.50, "exp": 1E+2}',
    '{"score":1.25,"text":"é \u2028 \x85 日本","z":1,"a":{"b":[null,true]}}'.encode(),
    b'{ "score" : -3e0 , "escaped": "\\u00e9\\ud83d\\ude00", "score2": "x" }  ',
    b'{"x": NaN, "lone": "\\ud800", "huge": 1e999, "score": 7}',
    b'{"score": 1, "score": 4}',
    b'{"score": 12345678901234567890123}',
]


def run(stage, source, target, *words):
    assert main(stage, [str(source), str(target), *words]) == 0
    return target.read_bytes()


def test_lines_come_out_byte_for_byte(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\xef\xbb\xbf" + b"\r\n\n".join(ODD_LINES))  # BOM, CRLF, blank lines, no last newline
    out = run(SELECTION, source, tmp_path / "out.jsonl", "top-k", "k=99", "direction=higher")
    assert out == b"".join(line + b"\n" for line in ODD_LINES)
    out = run(ORDERING, source, tmp_path / "out.jsonl", "sorting")
    order = np.argsort([2, 1.25, -3, 7, 4, 12345678901234567890123], kind="stable")
    assert out == b"".join(ODD_LINES[i] + b"\n" for i in order)
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert manifest["blank_lines"] == 5 and manifest["rows_out"] == 6


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text(), st.floats(-9, 9)), min_size=1, max_size=30), st.integers(0, 40))
def test_selection_and_ordering_only_move_lines(tmp_path_factory, rows, k):
    folder = tmp_path_factory.mktemp("rows")
    lines = [
        json.dumps({"text": t, "score": s}, ensure_ascii=not i % 2).encode(errors="surrogatepass")
        for i, (t, s) in enumerate(rows)
    ]
    (folder / "in.jsonl").write_bytes(b"\n".join(lines))
    keys = ["top-k", f"k={k}", "direction=higher"]
    kept = run(SELECTION, folder / "in.jsonl", folder / "kept.jsonl", *keys).split(b"\n")[:-1]
    assert len(kept) == min(k, len(rows))
    remaining = iter(lines)
    assert all(line in remaining for line in kept)  # a subsequence: the input order is kept
    ordered = run(ORDERING, folder / "in.jsonl", folder / "ordered.jsonl", "folding").split(b"\n")[:-1]
    assert sorted(ordered) == sorted(lines)


def test_blocks_do_not_split_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "READ_BLOCK", 7)
    monkeypatch.setattr(write_rows, "WRITE_BLOCK", 5)
    test_lines_come_out_byte_for_byte(tmp_path)


PIECES = ['{"score":1}', '{"score":2}', '{"a":{"b":0}', ',"score":3}', '{"a":[{}', *'"[]{} \r\n']


@settings(max_examples=500, deadline=None)
@example(['{"a":', "\n", '{"b":0}', ',"score":3}', '{"score":2}'])  # as many objects as lines
@example(['{"score":1}', '{"score":2}', "\n"])
@example(['{"a":{"b":0}', "\n", ',"score":3}', '{"score":2}'])
@example(['{"score":1}', "\n", '{"a":[{}', "\n", "]", ',"score":3}', '{"score":2}', '{"score":1}'])
@given(st.lists(st.sampled_from(PIECES)))
def test_a_block_is_decoded_as_its_lines_one_by_one(pieces):
    decoder, block = Decoder({"score": Number}), "".join([*pieces, "\n"]).encode()
    lines, expected = block[:-1].split(b"\n"), []
    start, end = jsonl._line_bounds(block)
    assert [block[i:j] for i, j in zip(start, end, strict=True)] == [line.removesuffix(b"\r") for line in lines]
    for line in lines:
        try:
            expected.append(decoder(line, True))
        except BadRow:
            expected = None
            break
    assert decoder.all_or_none(block, start, end) in (expected, None)


LINES = [b'{"score": %d, "text": "\xc3\xa9", "kind": %s}' % (n, b'"b"' if n % 4 else b"true") for n in range(6)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.sampled_from([*LINES, b"", b" ", b"broken", b"x" * 40]), max_size=12),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    line_end=st.sampled_from([b"\n", b"\r\n"]),
    ended=st.booleans(),
    size=st.integers(1, 90),
    block=st.sampled_from([5, 2**18]),
)
def test_parts_of_any_size_have_each_line_once(tmp_path, monkeypatch, lines, mark, line_end, ended, size, block):
    content = mark + line_end.join(lines) + line_end * ended
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_bytes(content)
    monkeypatch.setattr(jsonl, "READ_BLOCK", block)
    wanted = [columns.number("score"), columns.Column("group", ("kind",)), columns.Column("characters", ("text",))]
    with jsonl.open_source(str(tmp_path)) as source:
        whole, counts = columns.scan(source, wanted, "drop"), source.counts()
        with monkeypatch.context() as patch:
            patch.setattr(columns, "PART", size)
            patch.setattr(columns, "cores", lambda: 1)
            in_parts = columns.scan(source, wanted, "drop")
        assert source.counts() == counts
    assert len(whole) == 2 * sum(line in LINES for line in lines)
    assert in_parts.rows.start.tolist() == whole.rows.start.tolist()
    assert in_parts.rows.end.tolist() == whole.rows.end.tolist()
    for column in wanted:
        assert in_parts.columns[column].tolist() == whole.columns[column].tolist()


def test_several_processes_scan_as_one_does(tmp_path, monkeypatch):
    rows = [b'{"score": %d, "kind": "%d"}' % (n, n * n % 7) for n in range(500)]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join([*rows, b"broken", *rows, b"", b"odd"]))
    wanted = [columns.number("score"), columns.Column("group", ("kind",))]
    monkeypatch.setattr(columns, "cores", lambda: 3)
    with jsonl.open_source(str(tmp_path / "in.jsonl")) as source:
        whole, counts = columns.scan(source, wanted, "drop"), source.counts()
        monkeypatch.setattr(columns, "PART", 1000)
        table = columns.scan(source, wanted, "drop")
        assert source.counts() == counts == {"blank_lines": 1, "dropped_rows": {"broken JSON: Expecting value": 2}}
        assert [values.tolist() for values in table.columns.values()] == [
            values.tolist() for values in whole.columns.values()
        ]
        assert list(jsonl.raw_lines(source, table.rows)) == rows * 2
        with pytest.raises(UserError, match=r"in.jsonl:501: broken JSON"):
            columns.scan(source, wanted)


def test_a_file_that_becomes_shorter_is_an_error(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(LINES[1] + b"\n" + LINES[2] + b"\n")
    with jsonl.open_source(str(path)) as source:
        os.truncate(path, len(LINES[1]) + 1)
        with pytest.raises(UserError, match=r"in.jsonl became shorter while it was read"):
            columns.scan(source, [columns.number("score")])


def test_plain_rows_are_decoded_as_a_block():
    decoder, block = Decoder({"score": Number}), b'{"score":1}\r\n{"score":2, "a": [{}]}\n'
    assert decoder.all_or_none(block, *jsonl._line_bounds(block)) == [1, 2]


BYTES = [*map(str.encode, ("a", "abcdefgh", "é", "東", "\U0001f600")), b"\x80", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f"]


@settings(max_examples=500, deadline=None)
@example([b"\xc3", b"abcdefgh", b"\x80", b"abcdefgh"], 7)  # two halves with a word between them
@given(st.lists(st.sampled_from(BYTES), max_size=40), st.integers(0, 30))
def test_a_block_is_utf8_where_python_can_decode_it(parts, padding):
    block = b"x" * padding + b"".join(parts) + b"\n"
    assert jsonl._is_utf8(block) == (block.decode(errors="ignore").encode() == block)


def test_the_first_row(tmp_path):
    (tmp_path / "in.jsonl").write_text('\nbroken\n{"n": ' + "9" * 5000 + ', "text": "a"}\n{"text": "b"}\n')
    with jsonl.open_source(str(tmp_path / "in.jsonl")) as source:
        assert jsonl.first_row(source, "drop") == (8, {"n": float("inf"), "text": "a"})
        with pytest.raises(UserError, match=r"in.jsonl:2: broken JSON"):
            jsonl.first_row(source)
    (tmp_path / "in.jsonl").write_text("\n")
    with jsonl.open_source(str(tmp_path / "in.jsonl")) as source:
        assert jsonl.first_row(source) == (None, {})


def test_shards_globs_folders_and_compression(tmp_path):
    lines = [f'{{"score": {i}}}\n'.encode() for i in range(9)]
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/a.jsonl").write_bytes(b"".join(lines[:3]).rstrip(b"\n"))
    with gzip.open(tmp_path / "shards/b.jsonl.gz", "wb") as file:
        file.write(b"".join(lines[3:6]))
    frames = zstandard.compress(b"".join(lines[6:8])) + zstandard.compress(lines[8])
    (tmp_path / "shards/c.jsonl.zst").write_bytes(frames)
    (tmp_path / "shards/notes.txt").write_text("not a shard")
    wanted = b"".join(reversed(lines))
    for source in ("shards", "shards/*.jsonl*"):
        out = run(ORDERING, tmp_path / source, tmp_path / "out.jsonl", "sorting", "ascending=false")
        assert out == wanted
    run(ORDERING, tmp_path / "shards", tmp_path / "out.jsonl.zst", "sorting", "ascending=false")
    with zstandard.open(tmp_path / "out.jsonl.zst", "rb") as file:
        assert file.read() == wanted
    run(ORDERING, tmp_path / "shards", tmp_path / "out.jsonl.gz", "sorting", "ascending=false")
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()) == wanted


def test_bad_row_in_a_later_shard_names_shard_and_line(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"score": 1}\n')
    (tmp_path / "b.jsonl").write_text('{"score": 1}\n\n{"scor": 1}\n')
    assert main(ORDERING, [str(tmp_path), str(tmp_path / "x/out.jsonl"), "sorting"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/b.jsonl:3: score is missing (numbers of the row: scor)\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1}', "score is missing"),
        (b'{"score": null}', "score is null"),
        (b'{"score": "1"}', "score is a string, not a number"),
        (b'{"score": true}', "score is a boolean, not a number"),
        (b'{"score": [1]}', "score is a list, not a number"),
        (b'{"score": NaN}', "score is not a finite number"),
        (b'{"score": -Infinity}', "score is not a finite number"),
        (b'{"score": 1e999}', "score is not a finite number"),
        (b'{"score": 1' + b"0" * 400 + b"}", "score is not a finite number"),
        (b'{"score": 1', "broken JSON"),
        (b'{"score": 1} {"score": 2}', "broken JSON"),
        (b"\x00", "broken JSON"),
        (b"[1]", "a list, not a JSON object"),
        (b"3", "a number, not a JSON object"),
        (b'{"score": 1, "t": "\xff"}', "invalid UTF-8"),
        (b'{"score": 1, "t": "\xed\xa0\x80"}', "invalid UTF-8"),
        (b'{"score": 1, "t": ' + b"[" * 100000 + b"]" * 100000 + b"}", "nested too deeply"),
    ],
    ids=range(17),
)
def test_bad_rows_have_a_place_and_a_reason(tmp_path, capsys, line, reason):
    good = b'{"score": 5}\n'
    (tmp_path / "in.jsonl").write_bytes(good + line + b"\n" + good)
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "sorting"]
    assert main(ORDERING, words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/in.jsonl:2: {reason}") and error.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists() and not list(tmp_path.glob(".*"))
    assert main(ORDERING, [*words, "on_bad_row=drop"]) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == good * 2
    assert "dropped 1 bad rows" in capsys.readouterr().out


def test_lone_surrogate_is_bad_only_in_a_field_that_is_read(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b'{"text": "\\ud800", "score": 1}\n')
    with jsonl.open_source(str(tmp_path / "in.jsonl")) as source:
        assert len(columns.scan(source, [columns.number("score")])) == 1
        with pytest.raises(UserError, match=r"in.jsonl:1: text holds a lone surrogate"):
            list(jsonl.read_rows(source, {"text": Text}))


def test_in_may_be_out_and_a_failed_run_leaves_it_alone(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"score": 2}\n{"score": 1}\n')
    assert run(ORDERING, path, path, "sorting") == b'{"score": 1}\n{"score": 2}\n'
    path.write_text('{"score": 2}\n{"score": 1\n')
    assert main(ORDERING, [str(path), str(path), "sorting"]) == 2
    assert path.read_text() == '{"score": 2}\n{"score": 1\n'


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("nothing.jsonl", "out.jsonl", "no such file: nothing.jsonl"),
        ("nothing*.jsonl", "out.jsonl", "no file matches nothing*.jsonl"),
        ("empty.jsonl", "out.jsonl", "empty.jsonl holds no rows"),
        ("table.parquet", "out.jsonl", "utils.py --content dataset --id table.parquet --save-dir table.jsonl"),
        ("empty_folder", "out.jsonl", "no .jsonl, .jsonl.gz or .jsonl.zst files"),
        ("broken.jsonl.gz", "out.jsonl", "cannot read broken.jsonl.gz: it is not compressed"),
        ("damaged.jsonl.gz", "out.jsonl", "cannot read damaged.jsonl.gz: "),
        ("broken.jsonl.zst", "out.jsonl", "cannot read broken.jsonl.zst: it is not compressed"),
        ("half.jsonl.zst", "out.jsonl", "cannot read half.jsonl.zst: the compressed file ended before its last frame"),
        ("half.jsonl.gz", "out.jsonl", "cannot read half.jsonl.gz: Compressed file ended before"),
        ("good.jsonl", "empty_folder", "cannot write empty_folder: it is a folder"),
        ("good.jsonl", "good.jsonl/out.jsonl", "cannot write good.jsonl/out.jsonl"),
        ("good.jsonl", "/proc/out.jsonl", "cannot write /proc/out.jsonl"),
    ],
)
def test_bad_paths(tmp_path, monkeypatch, capsys, source, target, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty_folder").mkdir()
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "table.parquet").write_bytes(b"PAR1")
    (tmp_path / "good.jsonl").write_text('{"score": 1}\n')
    (tmp_path / "broken.jsonl.gz").write_bytes(b"not gzip")
    (tmp_path / "broken.jsonl.zst").write_bytes(b"not zstandard")
    content = b"".join(b'{"score": %d}\n' % number**9 for number in range(999))
    whole = gzip.compress(content)
    (tmp_path / "half.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "damaged.jsonl.gz").write_bytes(whole[:100] + b"\xff" * 100 + whole[200:])
    whole = zstandard.compress(content)
    (tmp_path / "half.jsonl.zst").write_bytes(zstandard.compress(content) + whole[: len(whole) // 2])
    assert main(ORDERING, [source, target, "sorting"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_pipe_is_an_error_in_one_line(tmp_path, capsys):
    reader, writer = os.pipe()
    os.close(writer)
    assert main(ORDERING, [f"/dev/fd/{reader}", str(tmp_path / "out.jsonl"), "sorting"]) == 2
    os.close(reader)
    message = f"/dev/fd/{reader} is a pipe, and rows are read more than once: write them to a file"
    assert capsys.readouterr().err == f"error: {message}\n"


def test_more_shards_than_files_may_be_open(tmp_path, capsys, monkeypatch):
    (tmp_path / "in").mkdir()
    for number in range(300):
        (tmp_path / f"in/{number}.jsonl").write_text(f'{{"score": {number}}}\n')
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        assert run(ORDERING, tmp_path / "in", tmp_path / "out.jsonl", "sorting").count(b"\n") == 300
        monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1000))
        assert main(ORDERING, [str(tmp_path / "in"), str(tmp_path / "x.jsonl"), "sorting"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "300 shards need 1,264 open files, 1,000 are allowed (ulimit -n)" in capsys.readouterr().err


def test_rerun_is_skipped_until_something_changes(tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text('{"score": 2}\n{"score": 1}\n')
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "sorting"]

    def is_skipped(*extra):
        capsys.readouterr()
        assert main(ORDERING, [*words, *extra]) == 0
        return "up to date" in capsys.readouterr().out

    assert not is_skipped()
    assert is_skipped()
    assert not is_skipped("ascending=false")
    (tmp_path / "out.jsonl").write_text("damaged")
    assert not is_skipped("ascending=false", "overwrite_out=true")
    (tmp_path / "in.jsonl").write_text('{"score": 2}\n{"score": 3}\n')
    assert not is_skipped("ascending=false")
    os.remove(tmp_path / "out.jsonl.manifest.json")
    assert not is_skipped("ascending=false", "overwrite_out=true")
    assert is_skipped("ascending=false")


@given(
    st.dictionaries(st.text(min_size=1), st.recursive(st.none() | st.floats(allow_nan=False) | st.text(), st.lists)),
    st.floats(-1e9, 1e9),
)
def test_added_field_changes_nothing_else(row, score):
    row.pop("score", None)
    line = json.dumps(row, indent=None).encode()
    added = add_field(line, "score", score)
    assert json.loads(added) == row | {"score": score}
    assert added.startswith(line[:-1])
    replaced = replace_field(added, "score", 5.5)
    assert replaced == add_field(line, "score", 5.5)


def test_text_fields_are_joined_by_newlines():
    assert document_text("a") == "a"
    assert document_text(["a", "b"]) == "a\nb"
    assert document_text(("t", ["a", "b"])) == "t\na\nb"


def test_an_integer_of_any_length_stays_when_a_value_is_replaced():
    line = b'{"hash": ' + b"7" * 5000 + b', "score": 1}'
    assert replace_field(line, "score", 2.0) == line.replace(b'"score": 1}', b'"score": 2.0}')


@pytest.mark.parametrize("value", [0, -7, 2**53 + 1, 2**60 + 1, -(2**63), 2**64 - 1, 10**40])
def test_a_whole_number_is_written_with_all_its_digits(value):
    assert add_field(b"{}", "n", value) == b'{"n": %d}' % value
    assert replace_field(b'{"n": 1.5, "m": 2}', "n", value) == b'{"n": %d, "m": 2}' % value


VALUES = st.none() | st.booleans() | st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.text(), VALUES | st.lists(VALUES)), st.dictionaries(st.text(), VALUES))
def test_fields_of_every_type(row, fields):
    line = json.dumps(row, ensure_ascii=False).encode()
    new = {name: value for name, value in fields.items() if name not in row}
    added = add_fields(line, new)
    assert list(json.loads(added).items()) == list((row | new).items()) and added.startswith(line[:-1])
    assert b"\n" not in added
    replaced = replace_fields(line, fields)
    assert list(json.loads(replaced).items()) == list((row | fields).items())
    assert replace_fields(replaced, fields) == replaced


def test_a_field_that_is_not_a_number_is_null():
    assert (
        add_fields(b'{"a": 1}', {"b": float("nan"), "c": "x\u2028"}) == '{"a": 1, "b": null, "c": "x\u2028"}'.encode()
    )
