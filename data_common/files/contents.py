"""What files hold: digests of whole contents, and stamps by which an unchanged file is known without being read.

Inode, size and time of change together are taken for the content: where they are as they were, so is that. Where they
differ the content is read and its digest decides. So a copy is the same content, and an edit in place is not.
"""

import contextlib
import json
import math
import os
import re
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from data_common.files.atomic import read_json, write_text
from data_common.files.cache import cache_folder
from data_common.files.durable import flush_tree
from data_common.messages.errors import UserError

LARGE = 64 * 2**20  # bytes from which a digest is remembered
BLOCK = 2**20
SAMPLES = 64
SETTLED = 2  # seconds: a file changed later than that may change again without a newer time
REMEMBERED = 10_000  # digests
SEAL = "files.json"
Named = Sequence[tuple[str, Path]]


def stamp_of(path: str | os.PathLike) -> tuple[int, ...]:
    """Inode, size and times of a file: the time of the last change cannot be set back."""
    return _stamp(os.stat(path))


def _stamp(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def digest_of(files: Named) -> tuple[int, str]:
    """(name, path) of files -> bytes in all; xxh3 (128 bits) of names and whole contents, one after the other.

    That of large ones is remembered.
    """
    stats = [os.stat(path) for _, path in files]
    size = sum(stat.st_size for stat in stats)
    if size < LARGE:
        return size, _digest(files)
    facts = [(name, s.st_dev, *_stamp(s)) for (name, _), s in zip(files, stats, strict=True)]
    memory = cache_folder("digests") / xxhash.xxh3_128_hexdigest(json.dumps(facts).encode())
    with contextlib.suppress(OSError, ValueError):
        if re.fullmatch("[0-9a-f]{32}", known := memory.read_text(encoding="ascii")):
            return size, known
    found = _digest(files)
    if time.time() - max(stat.st_mtime for stat in stats) > SETTLED:
        _remember(memory, found)
    return size, found


def file_digest() -> xxhash.xxh3_128:
    """Of one file: it is the digest that `digest_of` gives once the content has been added."""
    return xxhash.xxh3_128(b".")  # the name of a file from its own path


def _digest(files: Named) -> str:
    digest = xxhash.xxh3_128()
    for name, path in files:
        digest.update(os.fsencode(name))
        for block in _blocks(path):
            digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(BLOCK))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            yield buffer[:count]


def sampled_digest(files: Named) -> str:
    """What older versions gave: files above LARGE were hashed at 64 evenly spread blocks."""
    digest = xxhash.xxh3_128()
    for name, path in files:
        digest.update(os.fsencode(name))
        size = path.stat().st_size
        with open(path, "rb") as file:
            for place in range(SAMPLES) if size > LARGE else ():
                file.seek((size - BLOCK) * place // (SAMPLES - 1))
                digest.update(file.read(BLOCK))
        for block in _blocks(path) if size <= LARGE else ():
            digest.update(block)
    return digest.hexdigest()


def _remember(memory: Path, digest: str) -> None:
    """A digest that cannot be kept is only made again."""
    with contextlib.suppress(OSError, UserError):
        memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text(memory, digest)
        if digest.startswith("00"):  # now and then
            oldest = sorted(memory.parent.iterdir(), key=lambda path: path.stat().st_mtime)[:-REMEMBERED]
            for path in oldest:
                path.unlink(missing_ok=True)


def record_of(folder: Path, but: Sequence[str] = ()) -> dict[str, Any]:
    """Of every file below a folder: name -> stamp, xxh3. but: names that are left out."""
    return {name: [list(stamp_of(path)), _digest([("", path)])] for name, path in _files(folder, but)}


def weights_of(folder: Path) -> dict[str, str]:
    """Name -> xxh3 of each file of weights in the folder of a model, those of its checkpoints aside."""
    return {path.name: _digest([("", path)]) for path in sorted(folder.glob("*.safetensors"))}


def damaged(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """Names of the files of `record_of` that are missing or hold something else; read where their stamps differ."""
    found = []
    for name, recorded in record.items():
        path = folder / name
        try:
            (stamp, digest), now = recorded, list(stamp_of(path))
            same = now == stamp or (now[1] == stamp[1] and _digest([("", path)]) == digest)
        except (OSError, ValueError, TypeError, IndexError):
            same = False
        if not same:
            found.append(name)
    return found


def seal(folder: Path) -> None:
    """Bring a folder to the disk and keep in it what its files hold, for `broken`."""
    flush_tree(folder)
    write_text(folder / SEAL, json.dumps(record_of(folder, but=[SEAL])))


def broken(folder: Path) -> str | None:
    """The first file of a sealed folder that is missing or holds something else; the seal, where there is no such."""
    try:
        record = read_json(folder / SEAL)
        return next(iter(damaged(folder, record)), None)
    except (OSError, ValueError, AttributeError, RecursionError):
        return SEAL


def unreadable(folder: Path) -> list[str]:
    """Names of the arrays and weights below a folder that are too short to be read, as after a power cut."""
    kinds = {".npy": _whole_npy, ".npz": zipfile.is_zipfile, ".pt": zipfile.is_zipfile, ".safetensors": _whole_weights}
    return [name for name, path in _files(folder) if not kinds.get(path.suffix, lambda path: True)(path)]


def _whole_npy(path: Path) -> bool:
    """A header, and as many bytes behind it as it speaks of."""
    from numpy.lib import format as npy

    with open(path, "rb") as file:
        try:
            read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(file)
        except (ValueError, EOFError):
            return False
        return path.stat().st_size == file.tell() + math.prod(shape) * dtype.itemsize


def _whole_weights(path: Path) -> bool:
    """A header of JSON behind its length, and all bytes that it speaks of."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 2**28)))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return path.stat().st_size == 8 + length + max(ends, default=0)


def _files(folder: Path, but: Sequence[str] = ()) -> list[tuple[str, Path]]:
    found = [(str(path.relative_to(folder)), path) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(name, path) for name, path in found if name not in but]
