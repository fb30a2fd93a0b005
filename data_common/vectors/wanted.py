"""The vectors of a sequence of texts, filled in as they are found in a store or computed; equal texts have one."""

import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

from data_common.files.temporary import told_of_temporary
from data_common.vectors.store import VectorStore, checksums

ROWS = 4096  # that are written at a time


class Wanted:
    """An (n, width) float16 array in an unnamed temporary file, and which of its rows are there."""

    def __init__(self, hashes: np.ndarray):
        """hashes: (n,) of `store.HASH`, of the texts in their order."""
        self.hashes = hashes
        self.order = np.lexsort((hashes["low"], hashes["high"]))  # stable: equal texts in the order of the rows
        is_new = np.ones(len(hashes), bool)
        is_new[1:] = hashes[self.order[1:]] != hashes[self.order[:-1]]
        self.number = np.cumsum(is_new) - 1  # of the distinct text, by place in the order
        self.first = self.order[is_new]  # the row in which each distinct text is for the first time
        self.high = hashes["high"][self.first]
        self.missing = np.zeros(len(hashes), bool)  # (n,), never of a row whose text was there before
        self.missing[self.first] = True
        self.vectors = np.empty((0, 0), np.float16)

    def open(self, width: int) -> None:
        """Make room on the disk, once. Raises: UserError if the disk is full."""
        shape = (len(self.hashes), width)
        if self.vectors.shape == shape:
            return
        if not all(shape):
            self.vectors = np.empty(shape, np.float16)
            return
        with told_of_temporary():
            file = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the mapping)
            for first in range(0, len(self.hashes), ROWS):  # a full disk is known now, and not by a bus error
                file.write(bytes(2 * width * min(ROWS, len(self.hashes) - first)))
            file.flush()
            self.vectors = np.memmap(file, np.float16, mode="r+", shape=shape)

    def put(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """rows: (m,), missing ones. vectors: (m, width)."""
        self.vectors[rows] = vectors
        self.missing[rows] = False

    def take(self, store: VectorStore) -> None:
        """Fill in what was added to the store since the last time."""
        if not self.missing.any():
            return
        for records, vectors in store.new():
            place = np.minimum(np.searchsorted(self.high, records["text"]["high"]), len(self.first) - 1)
            rows = self.first[place]
            found = np.flatnonzero((self.hashes[rows] == records["text"]) & self.missing[rows])
            whole = np.asarray(vectors[found])
            sound = checksums(whole) == records["check"][found]
            self.put(rows[found[sound]][::-1], whole[sound][::-1])  # of two of one text the first stands, always

    def parts(self, texts: Iterable[str], size: int) -> Iterator[tuple[np.ndarray, list[str]]]:
        """(rows, their texts), `size` at a time, of what is missing now."""
        rows: list[int] = []
        some: list[str] = []
        for row, (text, missing) in enumerate(zip(texts, self.missing.copy(), strict=True)):
            if missing:
                rows.append(row)
                some.append(text)
            if len(rows) == size:
                yield np.array(rows), some
                rows, some = [], []
        if rows:
            yield np.array(rows), some

    def complete(self) -> np.ndarray:
        """The vectors, (n, width), once none is missing; rows of equal texts are equal."""
        rows = np.empty(len(self.hashes), np.int64)
        rows[self.order] = self.first[self.number]
        again = np.flatnonzero(rows != np.arange(len(rows)))
        for some in np.array_split(again, len(again) // ROWS + 1):
            self.vectors[some] = self.vectors[rows[some]]
        return self.vectors
