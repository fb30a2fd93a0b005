"""Hashed word n-grams of texts: which bucket each n-gram falls into, and sums over them."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import regex
import xxhash
from scipy.sparse import csr_matrix

# Words, or runs of marks, as NLTK's WordPunct: `re` takes marks such as ² for parts of words, `regex` does not.
WORD = regex.compile(r"\w+|[^\w\s]+")
TOKEN = re.compile(r"\w+|[^\w\s]")  # words, and marks one by one
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits well mixed: 2**64 divided by the golden ratio
REMEMBERED = 2**20  # n-grams whose buckets are kept; some 150 MB


class Buckets(dict):
    """N-gram -> SHA-256 of its UTF-8 bytes, as one large number, modulo the number of buckets."""

    def __init__(self, count: int):
        super().__init__()
        self.count = count

    def __missing__(self, ngram: str) -> int:
        if len(self) >= REMEMBERED:
            self.clear()
        bucket = int.from_bytes(hashlib.sha256(ngram.encode()).digest(), "big") % self.count
        self[ngram] = bucket
        return bucket


@dataclass(frozen=True)
class Ngrams:
    """The n-grams of some texts, one text after the other."""

    buckets: np.ndarray  # (n-grams of all texts,), whole numbers
    counts: np.ndarray  # n-grams of each text, (texts,)
    words: np.ndarray  # words of each text, (texts,)

    def histogram(self, count: int) -> np.ndarray:
        """How many n-grams fall into each of `count` buckets, (count,)."""
        return np.bincount(self.buckets, minlength=count)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The sum of the values of its n-grams' buckets, for each text, (texts,). values: (buckets,)."""
        sums, some = np.zeros(len(self.counts)), self.counts > 0
        starts = np.cumsum(self.counts) - self.counts
        sums[some] = np.add.reduceat(values[self.buckets], starts[some]) if some.any() else 0
        return sums

    def of(self, texts: np.ndarray) -> "Ngrams":
        """Only these texts, by a mask of (texts,)."""
        return Ngrams(self.buckets[np.repeat(texts, self.counts)], self.counts[texts], self.words[texts])


def hashed_ngrams(order: int, count: int) -> Callable[[Sequence[str]], Ngrams]:
    """The function that gives the 1-grams to `order`-grams of lower-cased texts in `count` buckets, which they share.

    The words of an n-gram are joined by a blank (as in the package data-selection).
    """
    bucket_of = Buckets(count).__getitem__
    kind = np.uint16 if count <= 2**16 else np.uint32

    def ngrams(texts: Sequence[str]) -> Ngrams:
        found, counts, lengths = [np.empty(0, kind)], [], []
        for text in texts:
            words = WORD.findall(text.lower())
            buckets = [bucket_of(ngram) for ngram in _all_ngrams(words, order)]
            found.append(np.array(buckets, kind))
            counts.append(len(buckets))
            lengths.append(len(words))
        return Ngrams(np.concatenate(found), np.array(counts, np.int64), np.array(lengths, np.int64))

    return ngrams


def _all_ngrams(words: list[str], order: int) -> Iterator[str]:
    yield from words
    for length in range(2, order + 1):
        yield from map(" ".join, zip(*(words[first:] for first in range(length)), strict=False))


def hashed_counts(texts: Sequence[str], order: int, count: int) -> csr_matrix:
    """How often n-grams of 1 to `order` tokens fall into each of `count` buckets; (texts, count) float32.

    Tokens of lower-cased text are hashed once (xxh3, 64 bits). The hash of an n-gram is that of its first n - 1 tokens
    times MULTIPLIER, plus that of the last, modulo 2**64; its bucket is the hash modulo `count`.
    """
    ids: dict[str, int] = defaultdict()
    ids.default_factory = ids.__len__  # a new token has the next number
    found = [np.empty(0, np.int32)]
    for text in texts:
        tokens = TOKEN.findall(text.lower())
        found.append(np.fromiter(map(ids.__getitem__, tokens), np.int32, len(tokens)))
    lengths = np.array([len(tokens) for tokens in found[1:]], np.int64)
    ends = np.repeat(np.cumsum(lengths), lengths)
    rows = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
    hash_of = np.array([xxhash.xxh3_64_intdigest(token.encode(errors="surrogatepass")) for token in ids], np.uint64)
    tokens = hash_of[np.concatenate(found)]
    hashes, buckets, places = tokens, [], []
    for length in range(1, order + 1):
        if length > 1:
            hashes = hashes[:-1] * MULTIPLIER + tokens[length - 1 :]
        inside = np.arange(length, length + len(hashes)) <= ends[: len(hashes)]  # within one text
        buckets.append((hashes[inside] % np.uint64(count)).astype(np.int32))
        places.append(rows[: len(hashes)][inside])
    cells = np.concatenate(places), np.concatenate(buckets)
    return csr_matrix((np.ones(len(cells[0]), np.float32), cells), shape=(len(texts), count))
