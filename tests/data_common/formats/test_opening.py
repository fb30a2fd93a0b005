"""Compressed and mislabelled files, by the converter and as shards of a stage."""

import bz2
import gzip
import io
import lzma
from contextlib import ExitStack

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import utils
from data_common.formats.files import FileRows
from data_common.messages import notes
from data_common.messages.errors import UserError
from data_common.rows.shards import open_shards

LINES = b'{"id": 0}\n{"id": 1}\n'
PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
# zstd --long=31 of three rows: the frame asks for a window of 2 GiB
LONG_WINDOW = (
    b'(\xb5/\xfd\x00\xa8\xc5\x01\x00\xb4\x02{"id": 0, "text": "row", "score": 0}\n1122}\n\x04\x00\xc0\n\xd0\x0eXV\xe4*2'
)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notes.note.cache_clear()
    return tmp_path


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"id": [0]}), file)
    return file.getvalue()


def shards(path: str) -> bytes:
    with ExitStack() as stack:
        found = stack.enter_context(open_shards(path))
        return b"".join(shard.file.seek(0) * b"" + shard.file.read() for shard in found)


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("name", ["in.jsonl", "in.json", "in.csv"])
def test_compressed_files(folder, suffix, name):
    content = b"id\n0\n1\n" if name == "in.csv" else LINES
    halves = content[:7], content[7:]
    (folder / f"{name}{suffix}").write_bytes(b"".join(map(PACK[suffix], halves)))  # several members, as pigz writes
    found = [line.replace(b" ", b"") for line in FileRows([f"{name}{suffix}"]).lines()]
    assert found == [b'{"id":0}', b'{"id":1}']
    (folder / f"half.{name}{suffix}").write_bytes(PACK[suffix](content)[:-6])
    with pytest.raises(UserError, match=rf"cannot read half\.{name}{suffix}: "):
        list(FileRows([f"half.{name}{suffix}"]).lines())


def test_the_longest_window_of_zstd(folder):
    (folder / "in.jsonl.zst").write_bytes(LONG_WINDOW)
    wanted = b"".join(b'{"id": %d, "text": "row", "score": %d}\n' % (n, n) for n in range(3))
    assert shards("in.jsonl.zst") == wanted
    assert b"\n".join(FileRows(["in.jsonl.zst"]).lines()) + b"\n" == wanted


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.jsonl", gzip.compress(LINES, mtime=0), "in.jsonl is compressed by gzip: call it in.jsonl.gz"),
        ("in.jsonl", bz2.compress(LINES), "in.jsonl is compressed by bzip2: call it in.jsonl.bz2"),
        ("in.jsonl", bz2.compress(b""), "in.jsonl is compressed by bzip2: call it in.jsonl.bz2"),
        ("in.jsonl", lzma.compress(LINES), "in.jsonl is compressed by xz: call it in.jsonl.xz"),
        ("in.jsonl", zstandard.compress(LINES), "in.jsonl is compressed by zstd: call it in.jsonl.zst"),
        ("in.jsonl.gz", zstandard.compress(LINES), "in.jsonl.gz is compressed by zstd: call it in.jsonl.zst"),
        ("in.jsonl.gz", LINES, "in.jsonl.gz: it is not compressed (if it is text, call it in.jsonl)"),
        (
            "in.jsonl.gz",
            gzip.compress(gzip.compress(LINES, mtime=0), mtime=0),
            "in.jsonl is compressed by gzip: call it in.jsonl.gz",
        ),
        ("in.jsonl", POINTER, "in.jsonl is a Git LFS pointer, not the file itself: git lfs pull gets it"),
        ("in.jsonl.zst", POINTER, "in.jsonl.zst is a Git LFS pointer, not the file itself: git lfs pull gets it"),
        ("in.jsonl", parquet(), "in.jsonl is a Parquet file: call it in.jsonl.parquet"),
        ("in.jsonl", b"PK\x03\x04", "in.jsonl is a zip archive: unpack it"),
        ("in.jsonl", "{}\n".encode("utf-16"), "in.jsonl is UTF-16 text: iconv -f utf-16 -t utf-8"),
        ("in.jsonl", b"\n<!DOCTYPE html>", "in.jsonl is a page of HTML: download the file itself"),
    ],
)
def test_files_under_another_name_are_named(folder, name, content, message):
    (folder / name).write_bytes(content)
    for read in (shards, lambda path: list(FileRows([path]).lines())):
        with pytest.raises(UserError) as raised:
            read(name)
        assert message in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.parquet", POINTER, "in.parquet is a Git LFS pointer"),
        ("in.parquet", gzip.compress(parquet(), mtime=0), "in.parquet is compressed by gzip: call it in.gz"),
        ("in.parquet", LINES, "cannot read in.parquet: it is no Parquet file"),
        ("in.csv", parquet(), "in.csv is a Parquet file: call it in.csv.parquet"),
        ("in.csv.gz", b"a\n1\n", "cannot read in.csv.gz: it is not compressed (if it is text, call it in.csv)"),
    ],
)
def test_tables_under_another_name_are_named(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(UserError) as raised:
        list(FileRows([name]).lines())
    assert str(raised.value).startswith(message)


def test_text_is_taken_for_nothing_else():
    for content in (b"BZh, ...\n", b"PAR, 1\n", b"", b"{}"):
        with open("in.csv", "wb") as file:
            file.write(content or b"a\n")
        list(FileRows(["in.csv"]).lines())


# --- Folders of shards ------------------------------------------------------------------------------------------------


def test_names_that_begin_with_a_dot_are_no_shards(folder, capsys):
    (folder / "in").mkdir()
    (folder / "in/x.jsonl").write_bytes(LINES)
    (folder / "in/._x.jsonl").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    for _ in range(2):
        assert shards("in") == LINES
    assert capsys.readouterr().out == "note: in: names that begin with a dot are no shards: ._x.jsonl\n"
    assert utils.main(["--content", "dataset", "--id", "./in", "--save-dir", "out.jsonl"]) == 0
    assert (folder / "out.jsonl").read_bytes() == LINES


def test_compressed_lines_by_the_name_json_are_shards_where_there_are_no_others(folder, capsys):
    (folder / "in").mkdir()
    for number in range(2):
        (folder / f"in/c4.{number}.json.gz").write_bytes(gzip.compress(LINES))
    (folder / "in/about.json").write_text("[]")
    assert shards("in") == 2 * LINES
    assert capsys.readouterr().out == ""
    (folder / "in/x.jsonl").write_bytes(LINES)
    assert shards("in") == LINES
    assert "only .jsonl, .jsonl.gz, .jsonl.zst are read, not c4.0.json.gz, c4.1.json.gz" in capsys.readouterr().out
    assert shards("in/*.json.gz") == 2 * LINES


@pytest.mark.parametrize("name", ["list.json", "list.json.gz"])
def test_a_list_is_no_shard(folder, name):
    content = b'\xef\xbb\xbf [\n{"id": 0}, {"id": 1}]'
    (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(UserError, match=f"a list: python utils.py --content dataset --id {name} --save-dir list.jsonl"):
        shards(name)
    assert utils.main(["--content", "dataset", "--id", name, "--save-dir", "list.jsonl"]) == 0
    assert shards("list.jsonl") == LINES
