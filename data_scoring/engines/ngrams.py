"""Hashed word n-grams of texts: which bucket each n-gram falls into, and sums over them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import regex

# Words, or runs of marks, as NLTK's WordPunct: `re` takes marks such as ² for parts of words, `regex` does not.
WORD = regex.compile(r"\w+|[^\w\s]+")
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
