"""How much of a page is repeated: lines, paragraphs and n-grams (Gopher, arXiv 2112.11446, table A1)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

TOP, DUPLICATE = (2, 3, 4), (5, 6, 7, 8, 9, 10)  # words of the n-grams
LARGEST = 2**63


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many of the parts are there before, and their characters."""
    distinct = set(parts)
    if len(distinct) == len(parts):
        return 0, 0
    return len(parts) - len(distinct), sum(map(len, parts)) - sum(map(len, distinct))


class Words(NamedTuple):
    """The words of some pages, one page after the other."""

    numbers: np.ndarray  # (words,), which word of the vocabulary each is
    counts: np.ndarray  # (pages,), words of each page
    lengths: np.ndarray  # (words,), characters of each

    def blocks(self, size: int) -> Iterator["Words"]:
        """Runs of pages with some `size` words each, or one longer page."""
        ends = np.cumsum(self.counts)
        cuts = np.flatnonzero(np.diff((ends - self.counts) // size)) + 1
        for pages in np.split(np.arange(len(ends)), cuts):
            begin, end = ends[pages[0]] - self.counts[pages[0]], ends[pages[-1]]
            yield Words(self.numbers[begin:end], self.counts[pages], self.lengths[begin:end])


class Repeated(NamedTuple):
    """The n-grams that are there more than once in their page."""

    place: np.ndarray  # (n-grams,), ascending: the number of the first word of each
    group: np.ndarray  # (n-grams,), equal where n-grams of one page are equal


def ngram_characters(words: Words) -> dict[str, np.ndarray]:
    """How many characters of each page are repeated, (pages,) for each size of n-gram.

    `top_Ngram`: the most frequent one in all its places, with the blanks in it. `duplicate_Ngrams`: those that were
    there before and overlap none that is counted already, without blanks.
    """
    pages = np.repeat(np.arange(len(words.counts)), words.counts)
    start = np.cumsum(words.counts) - words.counts
    left = np.repeat(start + words.counts, words.counts) - np.arange(len(pages))  # words up to the end of the page
    ends = np.concatenate([[0], np.cumsum(words.lengths)])
    found: dict[str, np.ndarray] = {}
    for size, repeated in _repeated(words.numbers, pages, left):
        if size in TOP:
            found[f"top_{size}gram"] = _top(repeated, size, pages, start, words.counts, ends)
        else:
            places = _not_overlapping(repeated, size)
            lengths = ends[places + size] - ends[places]
            found[f"duplicate_{size}grams"] = np.bincount(pages[places], lengths, len(start)).astype(np.int64)
    return found


def _repeated(numbers: np.ndarray, pages: np.ndarray, left: np.ndarray) -> Iterator[tuple[int, Repeated]]:
    """The repeated n-grams of each size: only where the n-gram of one word less is repeated can it be, too."""
    many = int(numbers.max(initial=0)) + 1
    if (int(pages.max(initial=0)) + 1) * many**2 >= LARGEST:
        distinct, numbers = np.unique(numbers, return_inverse=True)
        many = len(distinct)
    repeated = Repeated(np.arange(len(numbers)), pages * many + numbers)
    for size in (*TOP, *DUPLICATE):
        enough = left[repeated.place] >= size
        place, shorter = repeated.place[enough], repeated.group[enough]
        repeated = _equal(place, shorter * many + numbers[place + size - 1])
        yield size, repeated


def _equal(place: np.ndarray, key: np.ndarray) -> Repeated:
    """Those places whose key another one has too; keys are renumbered."""
    order = np.argsort(key)
    ordered = key[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(key)]
    several = ~(new & np.concatenate([new[1:], [True]]))[: len(key)]  # not one that begins and ends its run
    group = np.empty(len(key), np.int64)
    group[order] = np.where(several, np.cumsum(new & several) - 1, -1)
    there = group >= 0
    return Repeated(place[there], group[there])


def _top(
    repeated: Repeated, size: int, pages: np.ndarray, start: np.ndarray, counts: np.ndarray, ends: np.ndarray
) -> np.ndarray:
    """Characters of the most frequent n-gram of each page, the first one of several; the first where all are single."""
    place, times = np.minimum(start, max(0, len(pages) - 1)), np.ones(len(start), np.int64)
    if len(repeated.place):
        _, first, frequency = np.unique(repeated.group, return_index=True, return_counts=True)
        first = repeated.place[first]
        best = np.lexsort((first, -frequency, pages[first]))
        page, which = np.unique(pages[first][best], return_index=True)
        place[page], times[page] = first[best][which], frequency[best][which]
    there = counts >= size
    place = place[there]
    top = np.zeros(len(start), np.int64)
    top[there] = (ends[place + size] - ends[place] + size - 1) * times[there]
    return top


def _not_overlapping(repeated: Repeated, size: int) -> np.ndarray:
    """Places of n-grams that were seen before, read from the left; after one the reading goes on behind it."""
    seen: set[int] = set()
    found, free = [], 0
    for place, group in zip(repeated.place.tolist(), repeated.group.tolist(), strict=True):
        if place < free:
            continue
        if group in seen:
            found.append(place)
            free = place + size
        else:
            seen.add(group)
    return np.array(found, np.int64)
