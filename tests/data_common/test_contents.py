"""What a file holds decides whether it is the same, all of it; what was damaged is noticed."""

import os
import zipfile

import numpy as np
import pytest
import torch
import xxhash
from safetensors.torch import save_file

from data_common.files import contents
from data_common.files.contents import damaged, digest_of, record_of, sampled_digest, unreadable


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(contents, "LARGE", 1000)
    return tmp_path / "cache/digests"


def large(path, byte=b"x", age=60):
    path.write_bytes(byte * 5000)
    os.utime(path, (path.stat().st_mtime - age,) * 2)
    return [("name", path)]


def edit(path, place=2500):
    """One byte changed in its place; the time of change is the present."""
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(b"y")


def test_the_digest_is_that_of_names_and_whole_contents(tmp_path):
    files = [(name, tmp_path / name) for name in ("b", "a")]
    for name, path in files:
        path.write_bytes(name.encode() * 3 * 2**20)
    whole = xxhash.xxh3_128(b"b" + b"b" * 3 * 2**20 + b"a" + b"a" * 3 * 2**20)
    assert digest_of(files) == (6 * 2**20, whole.hexdigest())
    assert digest_of(files[::-1])[1] != whole.hexdigest()


def test_a_large_file_is_read_once_until_it_changes(tmp_path, cache, monkeypatch):
    reads = []
    real = contents._digest
    monkeypatch.setattr(contents, "_digest", lambda files: reads.append(1) or real(files))
    files = large(tmp_path / "a")
    first = digest_of(files)
    assert digest_of(files) == first and len(reads) == 1 and len(list(cache.iterdir())) == 1
    edit(tmp_path / "a")
    assert digest_of(files) != first and len(reads) == 2
    digest_of(files)
    assert len(reads) == 3  # it has only just been changed: another change might not show
    os.utime(tmp_path / "a", (0, 0))
    digest_of(files)
    digest_of(files)
    assert len(reads) == 4
    edit(tmp_path / "a", 100)
    os.utime(tmp_path / "a", (0, 0))  # the time of the last change cannot be set back
    assert digest_of(files) != first and len(reads) == 5
    next(iter(cache.iterdir())).write_bytes(b"\0" * 32)
    for entry in cache.iterdir():
        entry.write_bytes(b"\0" * 32)  # as after a power cut
    assert digest_of(files) != first and len(reads) == 6


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    monkeypatch.setenv("DELT_CACHE", "/proc/nowhere")
    files = large(tmp_path / "a")
    assert digest_of(files) == digest_of(files)


def test_few_digests_are_kept(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(contents, "REMEMBERED", 3)
    monkeypatch.setattr(contents, "_digest", lambda files: "00" + "a" * 30)
    for number in range(8):
        digest_of(large(tmp_path / f"{number}"))
    assert len(list(cache.iterdir())) == 3


def test_samples_are_those_of_older_versions(tmp_path):
    """Blocks of 1 MiB at 64 evenly spread places, first and last included."""
    path = tmp_path / "a"
    content = np.random.default_rng(0).bytes(70 * 2**20)
    path.write_bytes(content)
    digest = xxhash.xxh3_128(b".")
    for place in range(64):
        begin = (len(content) - 2**20) * place // 63
        digest.update(content[begin : begin + 2**20])
    assert sampled_digest([(".", path)]) == digest.hexdigest()


def test_a_record_knows_every_file(tmp_path):
    for name in ("a", "b/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name * 100)
    (tmp_path / "record").write_text("")
    record = record_of(tmp_path, but=["record"])
    assert list(record) == ["a", "b/c"] and damaged(tmp_path, record) == []
    os.utime(tmp_path / "a", (0, 0))
    assert damaged(tmp_path, record) == []  # another time, the same content
    edit(tmp_path / "a", 3)
    (tmp_path / "b/c").unlink()
    assert damaged(tmp_path, record) == ["a", "b/c"]
    for nonsense in (None, [], [1], ["x", "y", 1, 2], 3):
        assert damaged(tmp_path, {"a": nonsense}) == ["a"]


def test_files_that_are_not_read_are_not_opened(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("x")
    record = record_of(tmp_path)
    monkeypatch.setattr(contents, "_digest", lambda files: pytest.fail("it was read"))
    assert damaged(tmp_path, record) == []


def test_arrays_and_weights_that_are_cut_are_unreadable(tmp_path):
    np.save(tmp_path / "whole.npy", np.arange(5))
    np.save(tmp_path / "none.npy", np.empty((0, 3)))
    np.savez(tmp_path / "whole.npz", a=np.arange(5))
    save_file({"a": torch.ones(5)}, tmp_path / "whole.safetensors")
    torch.save({"a": torch.ones(5)}, tmp_path / "whole.pt")
    assert unreadable(tmp_path) == []
    for path in list(tmp_path.glob("whole.*")):
        content = path.read_bytes()
        for name, part in {"cut": content[:-1], "head": content[:9], "empty": b"", "zero": bytes(99)}.items():
            (tmp_path / f"{name}{path.suffix}").write_bytes(part)
    parts, ends = ("cut", "head", "empty", "zero"), (".npy", ".npz", ".safetensors", ".pt")
    wanted = {f"{part}{end}" for part in parts for end in ends}
    assert set(unreadable(tmp_path)) == wanted
    assert zipfile.is_zipfile(tmp_path / "whole.npz")
