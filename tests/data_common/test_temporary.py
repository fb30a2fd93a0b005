"""Places that are too small are named, with what moves them; what killed calls left there goes."""

import errno
import fcntl
import gzip
import os
import resource
import subprocess
import sys
import tempfile

import pytest

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.files.temporary import temporary_folder, told_of_temporary
from data_common.messages.errors import UserError, exit_code
from data_common.rows import shards
from data_ordering.entry import STAGE as ORDERING


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_there_as_long_as_it_is_needed(place):
    with temporary_folder("logs") as folder:
        (folder / "file").write_text("x")
        assert folder.name.startswith("delt-logs-")
    assert list(place.iterdir()) == []


def test_abandoned_ones_of_the_kind_go_and_no_others(place):
    for name in ("delt-logs-killed", "delt-tasks-killed", "mine"):
        (place / name / "sub").mkdir(parents=True)
        (place / name / "sub/file").write_text("x")
        os.utime(place / name, (0, 0))
    (place / "delt-logs-young").mkdir()  # another process has just made it, and not locked it yet
    os.symlink(place / "mine", place / "delt-logs-planted")
    with temporary_folder("logs") as one, temporary_folder("logs") as two:
        assert one.exists() and two.exists()
        held = {path.name for path in place.iterdir()} - {one.name, two.name}
    assert held == {"delt-tasks-killed", "mine", "delt-logs-planted", "delt-logs-young"}
    assert (place / "mine/sub/file").exists()


def test_one_that_another_process_holds_stays(place):
    (place / "delt-logs-held").mkdir()
    os.utime(place / "delt-logs-held", (0, 0))
    descriptor = os.open(place / "delt-logs-held", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    with temporary_folder("logs"):
        assert (place / "delt-logs-held").exists()
    os.close(descriptor)
    with temporary_folder("logs"):
        assert not (place / "delt-logs-held").exists()


def test_a_full_one_is_named_with_what_moves_it(place):
    message = rf"temporary folder {place}: No space left on device \(TMPDIR moves it\)"
    with pytest.raises(UserError, match=message), told_of_temporary():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match="Input/output"), told_of_temporary():
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_compressed_input_that_does_not_fit_is_one_line(place, tmp_path, capsys, monkeypatch):
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(b'{"score": 1}\n'))

    class Full:
        def writelines(self, blocks):
            list(blocks)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shards.tempfile, "TemporaryFile", Full)
    assert main(ORDERING, [str(tmp_path / "in.jsonl.gz"), str(tmp_path / "out.jsonl"), "sorting"]) == 2
    assert "(TMPDIR moves it)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory", "out.jsonl"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("can't start new thread"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"),
    ],
)
def test_little_memory_is_one_line(capsys, error):
    def work():
        raise error

    assert exit_code(work) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory") and "batch_size" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ENOSPC, "No space left on device", "/a/place"),
        type("SafetensorError", (Exception,), {})("Error while serializing: I/O error: No space left (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/3"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 55168 vs 55056"),
    ],
)
def test_a_disk_that_fails_is_one_line(capsys, error):
    def work():
        raise error

    assert exit_code(work) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1


def test_a_limit_of_memory_is_told(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b'{"score": 1, "text": "%s"}\n' % (b"x" * 1000) * 100_000)

    def little():
        resource.setrlimit(resource.RLIMIT_AS, (2 * 10**8, 2 * 10**8))

    words = [sys.executable, "-m", "data_ordering.entry", "in.jsonl", "out.jsonl", "sorting", "cache=false"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, preexec_fn=little, capture_output=True, text=True, env=environment, cwd=tmp_path)
    if done.returncode:  # what an interpreter needs differs between systems
        assert done.returncode == 2 and done.stderr.startswith("error: out of memory (ulimit -v allows 0.20 GB)")
        assert done.stderr.count("\n") == 1
        assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl"}
