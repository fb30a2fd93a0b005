"""Writing lines: by mapped memory or threaded reads, to a file or a folder of parts."""

import errno
import os

import numpy as np
import pytest

from data_common.files.atomic import draft_of
from data_common.files.durable import publish
from data_common.messages.errors import UserError
from data_common.rows import jsonl, write_rows
from data_common.rows.columns import scan

RNG = np.random.default_rng(0)
LINES = [b'{"n": %d, "x": "%s"}' % (i, b"x" * int(RNG.integers(0, 300))) for i in range(500)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for number, part in enumerate(np.array_split(np.arange(500), 3)):
        (tmp_path / f"in/{number}.jsonl").write_bytes(b"\r\n\n".join(LINES[i] for i in part))
    return tmp_path


def write(folder, index, name="out.jsonl", **options):
    with jsonl.open_source(str(folder / "in")) as source, draft_of(folder / name, folder=bool(options)) as draft:
        write_rows.write_lines(draft, name, source, scan(source, []).rows, index, **options)
        publish(draft, folder / name)


@pytest.mark.parametrize("memory", [float("inf"), 0], ids=["mapped", "threaded reads"])
@pytest.mark.parametrize("block", [1, 1000, 10**9])
def test_any_order_by_either_way(folder, monkeypatch, memory, block):
    monkeypatch.setattr(write_rows, "free_memory", lambda: memory)
    monkeypatch.setattr(write_rows, "WRITE_BLOCK", block)
    for index in (RNG.permutation(500), np.arange(3, 490, 7), np.array([5, 5, 0]), np.arange(0)):
        write(folder, index)
        assert (folder / "out.jsonl").read_bytes() == b"".join(LINES[i] + b"\n" for i in index)


def test_short_reads_are_read_on(folder, monkeypatch):
    read = os.pread
    monkeypatch.setattr(write_rows, "free_memory", lambda: 0)
    monkeypatch.setattr(os, "pread", lambda file, size, at: read(file, min(size, 7), at))
    write(folder, np.arange(500)[::-1])
    assert (folder / "out.jsonl").read_bytes() == b"".join(line + b"\n" for line in LINES[::-1])


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_the_disk_stores_along_and_what_it_refuses_is_an_error(folder, monkeypatch, suffix):
    monkeypatch.setattr(write_rows, "SYNC_BYTES", 1000)
    monkeypatch.setattr(write_rows, "WRITE_BLOCK", 1000)
    stored = []
    monkeypatch.setattr(os, "fsync", stored.append)
    write(folder, np.arange(500), f"out.jsonl{suffix}")
    assert len(stored) >= 2  # the last one when all is written
    with jsonl.open_source(str(folder / f"out.jsonl{suffix}")) as source:
        assert list(jsonl.raw_lines(source, scan(source, []).rows)) == LINES

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        write(folder, np.arange(500), f"other.jsonl{suffix}")
    assert not (folder / f"other.jsonl{suffix}").exists()


def test_an_input_that_becomes_shorter_is_an_error_not_a_short_output(folder, monkeypatch):
    monkeypatch.setattr(write_rows, "free_memory", lambda: 0)
    with jsonl.open_source(str(folder / "in")) as source:
        rows = scan(source, []).rows
        os.truncate(folder / "in/2.jsonl", 9)
        with pytest.raises(UserError, match="shorter while it was read"):
            write_rows.write_lines(folder / "out.jsonl", "out.jsonl", source, rows, np.arange(500))


@pytest.mark.parametrize(("rows", "size", "sizes"), [(500, 200, [200, 200, 100]), (400, 200, [200, 200]), (0, 9, [0])])
@pytest.mark.parametrize("suffix", ["", ".zst", ".gz"])
def test_parts_are_complete_and_read_as_one(folder, rows, size, sizes, suffix):
    index = RNG.permutation(500)[:rows]
    write(folder, index, f"parts{suffix}", rows_per_shard=size)
    names = sorted(path.name for path in (folder / f"parts{suffix}").iterdir())
    assert names == [f"part-{number:05d}.jsonl{suffix}" for number in range(len(sizes))]
    with jsonl.open_source(str(folder / f"parts{suffix}")) as source:
        lines = list(jsonl.raw_lines(source, scan(source, []).rows))
    assert lines == [LINES[i] for i in index]
    for name, number in zip(names, sizes, strict=True):
        with jsonl.open_source(str(folder / f"parts{suffix}" / name)) as source:
            assert len(scan(source, [])) == number


def test_a_folder_of_parts_is_replaced_whole_and_nothing_else_is(folder):
    write(folder, np.arange(500), "parts", rows_per_shard=10)
    write_rows.check_target(str(folder / "parts"), 10)
    write(folder, np.arange(5), "parts", rows_per_shard=10)
    assert [path.name for path in (folder / "parts").iterdir()] == ["part-00000.jsonl"]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    with pytest.raises(UserError, match=r"0.jsonl in it is no part-00000.jsonl"):
        write_rows.check_target(str(folder / "in"), 10)
    with pytest.raises(UserError, match="a file of that name is there"):
        write_rows.check_target(str(folder / "in/0.jsonl"), 10)
    with pytest.raises(UserError, match="it is a folder"):
        write_rows.check_target(str(folder / "parts"), None)


def test_free_memory_is_some_of_the_machine():
    assert 2**20 < write_rows.free_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("count", [1, 99_999, 100_001])
def test_names_of_parts_sort_by_number(count):
    names = list(write_rows.part_names(count, ".zst"))
    assert len(names) == count and names == sorted(names)
    assert all(write_rows.PART.fullmatch(name) for name in (names[0], names[-1]))


@pytest.mark.parametrize("memory", [float("inf"), 0], ids=["mapped", "threaded reads"])
@pytest.mark.parametrize("block", [1, 60, 10**9])
def test_neighbours_are_joined_only_where_one_newline_is_between_them(tmp_path, monkeypatch, memory, block):
    monkeypatch.setattr(write_rows, "free_memory", lambda: memory)
    monkeypatch.setattr(write_rows, "WRITE_BLOCK", block)
    (tmp_path / "in").mkdir()
    ends, lines = [b"\n", b"\r\n", b"\n\n", b"\n  \n"], []
    for shard in range(3):
        rows = [b'{"n": "%d"}' % i for i in range(shard * 40, shard * 40 + 40)]
        text = b"".join(row + ends[int(RNG.integers(4))] for row in rows)
        (tmp_path / f"in/{shard}.jsonl").write_bytes(text)
        lines += rows
    for index in (np.arange(120), np.flatnonzero(RNG.random(120) < 0.7), np.array([3, 4, 4, 5, 39, 40, 41, 2, 3])):
        write(tmp_path, index)
        assert (tmp_path / "out.jsonl").read_bytes() == b"".join(lines[i] + b"\n" for i in index)
