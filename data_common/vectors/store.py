"""Vectors on disk by the hash of their text: a file that was selected, ordered or copied finds its vectors again.

The vectors of one embedder lie in folders of the cache that begin with its key: `vectors.bin`, float16, and
`records.bin`, for each vector the hash of its text and a checksum of the vector. Both files only grow, and several
processes may add to them. A kill or a power cut leaves at worst a vector that is not what its checksum says: it counts
as missing, is computed again, and stands at the end of the file.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import xxhash

from data_common.files.cache import cache_folder, trim
from data_common.files.durable import flush, lock_file, open_own
from data_common.messages.errors import UserError

HASH = np.dtype([("high", "<u8"), ("low", "<u8")])
RECORD = np.dtype([("text", HASH), ("check", "<u8")])
FOLDER_BYTES = 2**30  # of vectors in one folder: what is removed at a time
LIMIT = 64 * 2**30  # bytes of all folders together: beyond it the least recently used ones go
CHUNK = 2**16  # vectors that are read at a time
BUSY = "another run computes these vectors"


def text_hashes(texts: Iterable[str]) -> np.ndarray:
    """The hash of each text, (n,) of HASH: 128 bits of xxh3 over UTF-8."""
    digests = bytearray()
    for text in texts:
        digests += xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))
    return np.frombuffer(digests, HASH)


class VectorStore:
    """The vectors of one embedder."""

    def __init__(self, key: str):
        """key: follows from all that a vector depends on beside its text."""
        self.place, self.key = cache_folder("vectors"), key
        self.seen: dict[Path, int] = {}  # folder -> how many of its records `new` gave

    def width(self) -> int | None:
        """Numbers of a vector; None where nothing is stored."""
        folders = self._folders()
        return _width(folders[0]) if folders else None

    def new(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(records (m,), vectors (m, width)) that were added since the last call, in parts; some may be damaged."""
        for folder in self._folders():
            begin, stop = self.seen.get(folder, 0), _count(folder)
            self.seen[folder] = stop
            if stop > begin:
                with contextlib.suppress(FileNotFoundError):  # another run has just removed it
                    records = np.memmap(folder / "records.bin", RECORD, mode="r", shape=(stop,))
                    vectors = np.memmap(folder / "vectors.bin", np.float16, mode="r", shape=(stop, _width(folder)))
                    os.utime(folder)  # used last
                    for first in range(begin, stop, CHUNK):
                        part = slice(first, min(first + CHUNK, stop))
                        yield records[part], vectors[part]

    def add(self, hashes: np.ndarray, vectors: np.ndarray) -> None:
        """hashes: (m,). vectors: (m, width) float16. Raises: UserError where the cache cannot be written."""
        with self._told(), self._lock("", wait=True):
            folder = self._open_folder(vectors.shape[1])
            count = _count(folder)
            records = np.empty(len(hashes), RECORD)
            records["text"], records["check"] = hashes, checksums(vectors)
            for name, rows in (("vectors.bin", vectors), ("records.bin", records)):  # a record is never without vector
                with os.fdopen(open_own(folder / name), "r+b") as file:
                    file.truncate(count * rows[:1].nbytes)  # what a killed run has left behind whole rows
                    file.seek(0, os.SEEK_END)
                    file.write(rows.tobytes())
                flush(folder / name)
            os.utime(folder)

    @contextlib.contextmanager
    def claimed(self, hashes: np.ndarray, wait: bool) -> Iterator[bool]:
        """Whether these texts are this process' work until the end; False where another process is at them.

        wait: until that one has done or died, instead.
        """
        part = xxhash.xxh3_64_hexdigest(hashes.tobytes())
        with contextlib.ExitStack() as stack:
            mine = True
            try:
                with self._told():
                    stack.enter_context(self._lock(f"-{part}", wait))
            except UserError as error:
                if str(error) != BUSY:
                    raise
                mine = False
            yield mine

    def _lock(self, part: str, wait: bool) -> contextlib.AbstractContextManager[None]:
        self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return lock_file(self.place / f".{self.key}{part}.lock", BUSY, wait)

    def _folders(self) -> list[Path]:
        return sorted(self.place.glob(f"{self.key}-*-*"))

    def _open_folder(self, width: int) -> Path:
        """The last folder, or a further one where that is full."""
        folders = self._folders()
        if folders and _count(folders[-1]) * width * 2 < FOLDER_BYTES:
            return folders[-1]
        trim(self.place, LIMIT)
        number = int(folders[-1].name.rpartition("-")[2]) + 1 if folders else 0
        folder = self.place / f"{self.key}-{width}-{number:05}"
        folder.mkdir(mode=0o700)
        return folder

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot keep vectors in {self.place}: {reason} (DELT_CACHE moves it)") from error


def checksums(vectors: np.ndarray) -> np.ndarray:
    """A checksum of each vector, (n,) uint64."""
    rows = np.ascontiguousarray(vectors)
    return np.fromiter((xxhash.xxh3_64_intdigest(row) for row in rows), np.uint64, len(rows))


def _width(folder: Path) -> int:
    return int(folder.name.split("-")[1])


def _count(folder: Path) -> int:
    """Vectors that are there whole."""
    sizes = {"records.bin": RECORD.itemsize, "vectors.bin": 2 * _width(folder)}
    try:
        return min((folder / name).stat().st_size // size for name, size in sizes.items())
    except FileNotFoundError:
        return 0
