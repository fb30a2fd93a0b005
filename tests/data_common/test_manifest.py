"""The record of a run: what counts as the same call, and what does not."""

import errno
import itertools
import json
import os
from pathlib import Path

import pytest

from data_common.calls.cli import main
from data_common.files import contents
from data_common.files import fingerprint as fingerprint_module
from data_common.files.contents import sampled_digest
from data_common.files.durable import lock_file
from data_common.files.manifest import (
    Run,
    fingerprint,
    manifest_path,
    pending_path,
    read_manifest,
    same_content,
    version_news,
)
from data_ordering.entry import STAGE as ORDERING
from data_selection.entry import STAGE as SELECTION

ROWS = "".join(f'{{"score": {n}, "text": "{n:05}"}}\n' for n in range(300))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text(ROWS)
    fingerprint_module._sampled.cache_clear()
    fingerprint_module._say_sampled.cache_clear()
    return tmp_path


def select(*words):
    return main(SELECTION, ["in.jsonl", "out.jsonl", "top-r", "r=0.5", "direction=higher", *words])


def test_files_that_match_a_glob_are_known_by_their_content(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            (tmp_path / folder / f"{name}.jsonl").write_text(name)
    one, two = (fingerprint(tmp_path / folder / "*.jsonl") for folder in ("one", "two"))
    assert one["bytes"] == 2 and same_content(one, two)
    (tmp_path / "two/a.jsonl").write_text("c")
    assert not same_content(one, fingerprint(tmp_path / "two/*.jsonl"))
    assert fingerprint(tmp_path / "*.txt") == {"id": str(tmp_path / "*.txt")}


def edit_one_score(path, old=b'"score": 150', new=b'"score": 999'):
    """In its place: same inode, same size, a new time of change."""
    content = path.read_bytes()
    with open(path, "r+b") as file:
        file.seek(content.index(old))
        file.write(new)


@pytest.fixture
def large(folder, monkeypatch):
    """Every file counts as one of more than 64 MiB."""
    monkeypatch.setattr(contents, "LARGE", 100)
    monkeypatch.setattr(fingerprint_module, "LARGE", 100)
    monkeypatch.setattr(contents, "BLOCK", 16)
    monkeypatch.setattr(contents, "SAMPLES", 4)
    monkeypatch.setenv("DELT_CACHE", str(folder / "cache"))
    return folder


def test_one_score_edited_in_place_in_a_large_file_is_a_changed_file(large, capsys):
    assert select() == 0
    assert select() == 0 and "up to date" in capsys.readouterr().out
    before = fingerprint("in.jsonl")
    sampled = sampled_digest([(".", large / "in.jsonl")])
    edit_one_score(large / "in.jsonl")
    assert sampled_digest([(".", large / "in.jsonl")]) == sampled  # samples alone would not see it
    assert not same_content(before, fingerprint("in.jsonl"))
    assert select() == 0
    assert "up to date" not in capsys.readouterr().out and '"score": 999' in (large / "out.jsonl").read_text()


def test_a_copied_file_is_the_same_input(large, capsys):
    assert select() == 0
    os.rename("in.jsonl", "moved.jsonl")
    (large / "in.jsonl").write_bytes((large / "moved.jsonl").read_bytes())
    capsys.readouterr()
    assert select() == 0 and "up to date" in capsys.readouterr().out


def as_an_older_version_wrote_it(path):
    """Large files by samples, without what is new since then."""
    content = json.loads(manifest_path(path).read_text())
    content["output"] = {"path": str(path), "bytes": os.path.getsize(path), "xxh3": sampled_digest([(".", path)])}
    [data] = content["inputs"]["data"]
    data["xxh3"] = sampled_digest([(".", Path(data["path"]))])
    del data["whole"], content["method_versions"], content["config"]["band_of_the_future"]
    manifest_path(path).write_text(json.dumps(content))


def test_a_record_of_an_older_version_is_compared_as_it_was(large, capsys):
    assert select() == 0
    content = json.loads(manifest_path("out.jsonl").read_text())
    content["config"]["band_of_the_future"] = 1
    manifest_path("out.jsonl").write_text(json.dumps(content))
    as_an_older_version_wrote_it(large / "out.jsonl")
    capsys.readouterr()
    assert select() == 0
    out = capsys.readouterr().out
    assert "up to date" in out
    assert out.count("is compared by 64 samples a file, as an older version recorded it") == 2  # IN and OUT
    edit_one_score(large / "in.jsonl", b'"score": 0,', b'"score": 7,')  # in the first sample
    fingerprint_module._sampled.cache_clear()
    assert select() == 0 and "up to date" not in capsys.readouterr().out


def test_a_key_that_a_record_does_not_know_had_its_default():
    run = Run("stage", "method", {"r": 0.5, "new": 3}, {}, "out", defaults={"r": 1.0, "new": 3})
    record = run.identity | {"config": {"r": 0.5}}
    assert run._is_same(record)
    assert not Run("stage", "method", {"r": 0.5, "new": 4}, {}, "out", defaults={"new": 3})._is_same(record)
    assert not run._is_same(record | {"config": {}})  # r was 1.0
    assert not run._is_same(record | {"config": {"r": 0.5, "gone": 1}})


def test_versions_of_a_method_are_told_before_the_rerun(folder, capsys, monkeypatch):
    from data_selection.top_r import method

    assert select() == 0 and select() == 0
    assert "up to date" in capsys.readouterr().out
    monkeypatch.setattr(method, "VERSIONS", {2: "ties go to the later row"}, raising=False)
    assert select() == 0
    out = capsys.readouterr().out
    reason = "out.jsonl is made again: results of top-r changed in version 2: ties go to the later row\n"
    assert out.startswith(reason)
    assert read_manifest("out.jsonl")["method_versions"] == {"top-r": 2}
    assert select() == 0 and "up to date" in capsys.readouterr().out
    for words in (["sorting"], ["sorting", "select=top-r", "select.r=0.5", "select.direction=higher"]):
        assert main(ORDERING, ["in.jsonl", "ordered.jsonl", *words]) == 0
    assert read_manifest("ordered.jsonl")["method_versions"] == {"top-r": 2}


@pytest.mark.parametrize(
    ("recorded", "current", "news"),
    [
        ({}, {}, ""),
        ({"a": 2}, {"a": 2}, ""),
        ({}, {"a": 3}, "results of a changed in version 2: two; results of a changed in version 3: three"),
        ({"a": 2}, {"a": 3}, "results of a changed in version 3: three"),
        ({}, {"a": 3, "b": 2}, None),
    ],
)
def test_news_are_the_reasons_since_then(recorded, current, news):
    found = version_news(recorded, current, {"a": {2: "two", 3: "three"}, "b": {2: "other"}})
    assert found == news or (news is None and "results of b changed in version 2: other" in found)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b"\xff", b'{"output": 3}', b"[" * 100_000, bytes(500)])
def test_a_damaged_manifest_is_as_if_it_were_not_there(folder, capsys, damage):
    assert select() == 0
    manifest_path("out.jsonl").write_bytes(damage)
    assert read_manifest("out.jsonl") is None
    (folder / "out.jsonl").unlink()
    assert select() == 0 and len(read_manifest("out.jsonl")["inputs"]["data"]) == 1


def test_a_run_that_was_killed_before_its_manifest_is_done(folder, capsys, monkeypatch):
    """Behind the rename of OUT: its manifest waits beside it."""

    def killed(run):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_publish_manifest", killed)
        assert select() == 130
    assert pending_path("out.jsonl").exists() and not manifest_path("out.jsonl").exists()
    assert read_manifest("out.jsonl")["rows_out"] == 150
    capsys.readouterr()
    assert select() == 0 and "up to date" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ["in.jsonl", "out.jsonl", "out.jsonl.manifest.json"]


@pytest.mark.parametrize("before", [[], ["r=0.2"]], ids=["new", "replaced"])
@pytest.mark.parametrize("number", range(1, 6))
def test_a_file_or_folder_that_cannot_be_flushed_is_no_dead_end(folder, monkeypatch, capsys, number, before):
    """OUT is not refused as a stranger's file where it was the fsync behind its rename that failed."""
    if before:
        assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-r", "direction=higher", *before]) == 0
    calls, flushed = itertools.count(1), os.fsync

    def fails(descriptor):
        if next(calls) == number:
            raise OSError(errno.EIO, "Input/output error")
        flushed(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        assert select() == 2 and "Input/output error" in capsys.readouterr().err
    assert next(calls) > number
    assert select() == 0 and read_manifest("out.jsonl")["rows_out"] == 150
    assert sorted(path.name for path in folder.iterdir()) == ["in.jsonl", "out.jsonl", "out.jsonl.manifest.json"]


def test_a_pipe_in_place_of_a_manifest_is_not_waited_for(folder):
    assert select() == 0
    manifest_path("out.jsonl").unlink()
    os.mkfifo(manifest_path("out.jsonl"))
    assert read_manifest("out.jsonl") is None and select() == 2
    (folder / "out.jsonl").unlink()
    assert select() == 0 and read_manifest("out.jsonl")["rows_out"] == 150


def test_the_lock_that_a_killed_run_left_is_removed_unless_a_run_holds_it(folder):
    assert select() == 0
    lock = folder / ".out.jsonl.lock"
    with lock_file(lock, "busy"):
        assert select() == 0 and lock.exists()
    lock.touch()
    assert select() == 0 and not lock.exists()
