"""Hashed n-grams against counting by hand, with NLTK's words and the bucket numbers of the package data-selection."""

import hashlib
import re
from collections import Counter

import numpy as np
import pytest
import xxhash

from data_scoring.engines import ngrams
from data_scoring.engines.ngrams import Buckets, hashed_ngrams
from data_scoring.engines.parts import compute_parts, part_files, saved_parts

TEXTS = [
    "Alice went to the store",
    "x² costs 5½ € in a_b; naïve café, don't!",
    "",
    "日本語。 ①②  क्षि",
    "one",
]


def test_known_buckets():
    buckets = Buckets(10_000)
    assert (buckets["alice"], buckets["alice went"]) == (6720, 114)  # of the package's own test


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("count", [7, 10_000, 100_000])
def test_counting_by_hand(order, count):
    words_of = pytest.importorskip("nltk.tokenize").WordPunctTokenizer().tokenize
    found = hashed_ngrams(order, count)(TEXTS)
    assert len(hashed_ngrams(2, count)(TEXTS[:1]).buckets) == 9
    first = 0
    for number, text in enumerate(TEXTS):
        words = words_of(text.lower())
        wanted: Counter = Counter()
        for length in range(1, order + 1):
            for start in range(len(words) - length + 1):
                ngram = " ".join(words[start : start + length])
                wanted[int(hashlib.sha256(ngram.encode()).hexdigest(), 16) % count] += 1
        assert found.counts[number] == wanted.total() and found.words[number] == len(words)
        assert Counter(found.buckets[first : first + wanted.total()].tolist()) == wanted
        first += wanted.total()
    assert found.histogram(count).sum() == len(found.buckets) == first


def test_sums_and_parts_of_texts():
    found = hashed_ngrams(2, 50)(TEXTS)
    values = np.random.default_rng(0).normal(size=50)
    by_text = np.split(found.buckets, np.cumsum(found.counts)[:-1])
    np.testing.assert_allclose(found.sums(values), [values[part].sum() for part in by_text], rtol=1e-12)
    assert found.sums(values)[2] == 0
    some = np.array([True, False, True, False, True])
    np.testing.assert_array_equal(found.of(some).buckets, np.concatenate([by_text[0], by_text[2], by_text[4]]))
    assert hashed_ngrams(2, 50)([""]).sums(values).tolist() == [0]


def test_memory_of_ngrams_is_bounded(monkeypatch):
    monkeypatch.setattr(ngrams, "REMEMBERED", 3)
    buckets = Buckets(1000)
    for number in range(20):
        assert buckets[str(number)] == Buckets(1000)[str(number)] and len(buckets) <= 3


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_that_are_there_are_not_made_again(tmp_path, monkeypatch, workers):
    monkeypatch.setattr("data_scoring.engines.parts.PART", 3)
    texts = [f"text {number}" for number in range(8)]

    def lengths(part):
        return {"length": np.array([len(text) for text in part])}

    compute_parts(texts, tmp_path, lengths, workers, "reading")
    assert [path.name for path in part_files(tmp_path, 8)] == ["part-00000.npz", "part-00001.npz", "part-00002.npz"]
    (tmp_path / "part-00001.npz").unlink()
    made = (tmp_path / "part-00000.npz").stat().st_mtime_ns
    compute_parts(texts, tmp_path, lambda part: {"length": np.full(len(part), -1)}, workers, "reading")
    found = [part["length"].tolist() for part in saved_parts(tmp_path, 8)]
    assert found == [[6, 6, 6], [-1, -1, -1], [6, 6]]
    assert (tmp_path / "part-00000.npz").stat().st_mtime_ns == made


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("count", [7, 2**20])
def test_counts_by_hand(order, count):
    def hashed(tokens):
        value = 0
        for token in tokens:
            value = (value * 0x9E3779B97F4A7C15 + xxhash.xxh3_64_intdigest(token.encode())) % 2**64
        return value % count

    texts = [*TEXTS, "one one one"]
    found = ngrams.hashed_counts(texts, order, count)
    assert found.shape == (len(texts), count) and found.dtype == np.float32
    for row, text in enumerate(texts):
        tokens = re.findall(r"\w+|[^\w\s]", text.lower())
        every = [tokens[a : a + n] for n in range(1, order + 1) for a in range(len(tokens) - n + 1)]
        wanted = Counter(map(hashed, every))
        one = found[[row]].tocoo()
        assert dict(zip(one.col.tolist(), one.data.tolist(), strict=True)) == wanted
    assert ngrams.hashed_counts([], order, count).shape == (0, count)
    assert ngrams.hashed_counts([""], order, count).nnz == 0
