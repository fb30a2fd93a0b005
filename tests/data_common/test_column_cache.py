"""A cached scan is the scan: used again for the same content, never for another."""

import os
import shutil

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.files.manifest import fingerprint
from data_common.rows import column_cache, columns
from data_common.rows.columns import Column, number, scan
from data_common.rows.jsonl import open_source
from data_ordering.entry import STAGE as ORDERING
from data_selection.entry import STAGE as SELECTION

COLUMNS = [number("score"), Column("group", ("meta.source",)), Column("characters", ("text", "title"))]


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(column_cache, "LEAST_SOURCE", 0)
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "in.jsonl"
    path.write_text("".join(line(i, i % 7) for i in range(90)) + "\nbroken\n")
    return path


def line(number, value):
    return (
        f'{{"score": {value}, "meta": {{"source": "{number % 3}"}}, "text": "{"x" * number}", "title": ["é", "y"]}}\n'
    )


def read(path, columns=COLUMNS, on_bad_row="drop"):
    with open_source(str(path)) as source:
        table = column_cache.cached_scan(source, columns, on_bad_row, [fingerprint(s.name) for s in source.shards])
        return table, source.counts()


def never(*_):
    raise AssertionError("the file was scanned")


def same(one, other):
    assert one[1] == other[1]
    assert list(one[0].columns) == list(other[0].columns)
    for left, right in zip(column_cache._arrays(one[0]), column_cache._arrays(other[0]), strict=True):
        np.testing.assert_array_equal(left, right)
        assert left.dtype == right.dtype


def test_the_second_time_the_file_is_not_scanned(file, monkeypatch):
    first = read(file)
    with open_source(str(file)) as source:
        plain = scan(source, COLUMNS, "drop")
        assert (len(plain), source.blank, sum(source.dropped.values())) == (90, 1, 1)
        same(first, (plain, source.counts()))
    monkeypatch.setattr(column_cache, "scan", never)
    same(read(file), first)


def test_other_columns_and_policies_are_other_entries(file, monkeypatch):
    read(file)
    monkeypatch.setattr(column_cache, "scan", never)
    for arguments in ((COLUMNS[:1],), (COLUMNS[::-1],), (COLUMNS, "error")):
        with pytest.raises(AssertionError, match="was scanned"):
            read(file, *arguments)


def edited(path, old, new):
    """One value changed in its place; size and modification time stay."""
    stat = path.stat()
    with open(path, "r+b") as file:
        content = file.read()
        file.seek(content.index(old))
        file.write(new)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_an_edit_with_an_old_time_stamp_is_seen(file, monkeypatch):
    monkeypatch.setattr("data_common.files.contents.LARGE", 0)
    os.utime(file, (0, 0))
    before, print_ = read(file)[0], fingerprint(file)
    edited(file, b'"score": 3', b'"score": 9')
    assert fingerprint(file) != print_
    assert read(file)[0].columns[number("score")][3] == 9 != before.columns[number("score")][3]


def test_a_damaged_entry_is_written_again(file, monkeypatch):
    first = read(file)
    (entry,) = (file.parent / "cache/columns").iterdir()
    edited(entry / "2.npy", np.float64(6).tobytes(), np.float64(5).tobytes())
    same(read(file), first)
    (entry / "1.npy").unlink()
    same(read(file), first)
    (entry / "facts.json").write_text("{")
    same(read(file), first)
    monkeypatch.setattr(column_cache, "scan", never)
    same(read(file), first)


def test_a_source_that_changes_during_the_scan_is_not_remembered(file, monkeypatch):
    def slow_scan(*arguments):
        table = scan(*arguments)
        file.write_text(line(0, 1))
        return table

    monkeypatch.setattr(column_cache, "scan", slow_scan)
    read(file)
    assert not (file.parent / "cache").exists()


def test_a_source_that_is_replaced_after_it_was_opened_is_not_remembered(file):
    new = file.with_name("new.jsonl")
    new.write_text(line(1, 8))
    with open_source(str(file)) as source:
        os.replace(new, file)
        assert len(column_cache.cached_scan(source, COLUMNS, "drop", [fingerprint(file)])) == 90
    assert len(read(file)[0]) == 1


def test_the_least_recently_used_entries_go_first(file, monkeypatch):
    for wanted in (COLUMNS[:1], COLUMNS[1:2], COLUMNS[2:]):
        read(file, wanted)
        for path in (file.parent / "cache/columns").iterdir():
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**10))
    read(file, COLUMNS[:1])  # used again
    size = sum(path.stat().st_size for path in (file.parent / "cache/columns").rglob("*.*") if path.is_file())
    monkeypatch.setattr(column_cache, "LIMIT", size)
    abandoned = file.parent / "cache/columns/.of-a-killed-run"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    read(file, COLUMNS[:2])
    assert not abandoned.exists()
    monkeypatch.setattr(column_cache, "scan", never)
    read(file, COLUMNS[:1])
    read(file, COLUMNS[:2])
    with pytest.raises(AssertionError, match="was scanned"):
        read(file, COLUMNS[1:2])


def test_what_else_lies_in_the_folder_is_not_touched(file, monkeypatch):
    monkeypatch.setattr(column_cache, "LIMIT", 0)
    others = [file.parent / "cache" / name for name in (".ssh", "thesis")]
    for other in others:
        other.mkdir(parents=True)
        (other / "content").write_text("x")
        os.utime(other, (0, 0))
    read(file)
    assert all((other / "content").exists() for other in others)


def test_another_run_that_stores_the_same_entry_at_the_same_time_does_no_harm(file, monkeypatch):
    first, remove = read(file), shutil.rmtree
    monkeypatch.setattr(column_cache, "_load", lambda *_: None)  # as if it came up after this run had looked
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: remove(path) if path.name.startswith(".") else None)
    same(read(file), first)
    monkeypatch.undo()
    (entry,) = (file.parent / "cache/columns").iterdir()
    assert sorted(path.name for path in entry.iterdir()) == [*(f"{i}.npy" for i in range(5)), "facts.json"]


def test_without_a_place_to_write_there_is_one_note(file, monkeypatch, capsys):
    monkeypatch.setenv("DELT_CACHE", "/proc/nowhere")
    assert len(read(file)[0]) == 90
    assert capsys.readouterr().err.startswith("note: the columns are not cached: ")


def test_a_sweep_over_configurations_scans_once(file, tmp_path, monkeypatch):
    plain = "".join(line(i, i % 7) for i in range(90))
    file.write_text(plain)
    calls = []
    monkeypatch.setattr(column_cache, "scan", lambda *arguments: calls.append(1) or scan(*arguments))
    for keys in (["folding", "folding_layer=2"], ["folding", "folding_layer=5"], ["sorting"], ["zigzag"]):
        words = [str(file), str(tmp_path / "out.jsonl")]
        assert main(ORDERING, [*words, *keys]) == 0
        cached = (tmp_path / "out.jsonl").read_bytes()
        os.remove(tmp_path / "out.jsonl")
        assert main(ORDERING, [*words, *keys, "cache=false"]) == 0
        assert (tmp_path / "out.jsonl").read_bytes() == cached
    assert main(SELECTION, [*words, "top-r", "r=0.1", "direction=higher"]) == 0
    assert len(calls) == 1


@pytest.mark.parametrize("part", [7, 2**26])
def test_whole_numbers_that_lose_digits_are_counted(file, monkeypatch, capsys, part):
    """2^60 + n for n = 0..3, where a double stands for every 256th whole number only."""
    large = [2**60 + 3, 2**60 + 1, 2**60 + 2, 2**60, 2**53, 2**53 + 1, -(2**53) - 1, 2**53 + 2, 10**30, 10**22, 5]
    inexact = [n for n in large if int(float(n)) != n]
    assert len(inexact) == 6
    others = ["1e300", "9007199254740993.0", "0.1"]
    values = [*map(str, large), *others]
    file.write_text("".join(f'{{"score": {value}, "x": {{"y": {value}}}}}\n' for value in values))
    monkeypatch.setattr(columns, "PART", part)
    wanted = [number("score"), number("x.y")]
    message = "warning: 6 values of score are whole numbers beyond 2^53 that lose their last digits"
    for _ in range(2):  # the second time from the cache
        table, counts = read(file, wanted, "error")
        assert counts["rounded_numbers"] == {"score": 6, "x.y": 6}
        error = capsys.readouterr().err
        assert message in error and error.count("warning") == 2
        monkeypatch.setattr(column_cache, "scan", never)
    assert table.columns[wanted[0]].tolist() == [float(value) for value in values]


def test_sorting_warns_of_scores_that_are_equal_as_floating_point(file, tmp_path, capsys):
    rows = [f'{{"id": {n}, "score": {2**60 + n}}}\n' for n in (3, 1, 2, 0)]
    file.write_text("".join(rows))
    assert main(ORDERING, [str(file), str(tmp_path / "out.jsonl"), "sorting"]) == 0
    assert "warning: 3 values of score are whole numbers beyond 2^53" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl").read_text() == "".join(rows)  # ties by position
