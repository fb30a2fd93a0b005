"""Modified Kneser-Ney estimation of an n-gram model, interpolated, as lmplz does it, on whole arrays.

Chen and Goodman 1998 (https://dash.harvard.edu/handle/1/25104739), equations 20 to 27, with the choices of KenLM's
lmplz (Heafield et al., ACL 2013, https://aclanthology.org/P13-2121): adjusted counts in all orders but the
highest; below the unigrams the uniform distribution over the vocabulary with <unk> and </s>, without <s>; no pruning.

An n-gram is known by the id of its first n-1 words and its last word, so keys stay below tokens x vocabulary,
whatever the order. Time is that of one sort of the tokens for each order; memory is linear in the tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

UNKNOWN, BEGIN, END = 0, 1, 2  # word ids
SPECIAL = ("<unk>", "<s>", "</s>")
FALLBACK = (0.5, 1.0, 1.5)  # discounts where the closed form cannot be used, of lmplz


@dataclass
class Order:
    """The n-grams of one length, by id.

    last: (n,) where in the token stream an occurrence of each ends (unigrams: the word ids themselves).
    probability: (n,). backoff: (n,) weight of the shorter context behind this one. discounts: D1, D2, D3+.
    """

    length: int
    last: np.ndarray
    probability: np.ndarray
    backoff: np.ndarray
    discounts: tuple[float, ...]


@dataclass
class Grams:
    """The n-grams of one length in the token stream; ids count them sorted by prefix, then by last word.

    at: (m,) id of the n-gram that ends at each token, -1 where none does. last: (n,) where one occurrence ends.
    prefix, suffix: (n,) ids of the (n-1)-grams without the last and without the first word. count: (n,) occurrences.
    """

    at: np.ndarray
    last: np.ndarray
    prefix: np.ndarray
    suffix: np.ndarray
    count: np.ndarray


def estimate(tokens: np.ndarray, order: int, vocabulary: int) -> Iterator[Order]:
    """Yield the lengths 1 to `order` of the model.

    tokens: (m,) word ids of all sentences, each from BEGIN to END. vocabulary: number of word ids, the special
        ones included.
    """
    grams = _unigrams(tokens, vocabulary)
    shorter = np.array([1 / (vocabulary - 1)])  # probabilities, at first those of the uniform distribution
    done = None
    for length in range(1, order + 1):
        longer = _extended(grams, tokens, vocabulary) if length < order else None
        count = grams.count if longer is None else _adjusted(grams, longer, tokens, length)
        discounts = discounts_of(count)
        taken = np.array([0.0, *discounts])[np.minimum(count, 3)]
        total = np.bincount(grams.prefix, count, len(shorter))
        left_over = np.bincount(grams.prefix, taken, len(shorter))
        backoff = np.divide(left_over, total, out=np.ones(len(shorter)), where=total > 0)
        if done is not None:
            done.backoff = backoff
            yield done
        shorter = (count - taken) / total[grams.prefix] + backoff[grams.prefix] * shorter[grams.suffix]
        done = Order(length, grams.last, shorter, np.ones(len(shorter)), discounts)
        grams = longer
    yield done


def discounts_of(count: np.ndarray) -> tuple[float, ...]:
    """D1, D2, D3+ from adjusted counts, (n,): equation 26, or FALLBACK where it gives none that makes sense."""
    n = np.bincount(np.minimum(count, 5), minlength=6).astype(float)
    if not n[1:4].all():
        return FALLBACK
    y = n[1] / (n[1] + 2 * n[2])
    discounts = tuple(float(j - (j + 1) * y * n[j + 1] / n[j]) for j in (1, 2, 3))
    return discounts if all(0 <= d <= j for j, d in enumerate(discounts, 1)) else FALLBACK


def _unigrams(tokens: np.ndarray, vocabulary: int) -> Grams:
    every, root = np.arange(vocabulary), np.zeros(vocabulary, np.int64)
    return Grams(tokens.astype(np.int64), every, root, root, np.bincount(tokens, minlength=vocabulary))


def _extended(grams: Grams, tokens: np.ndarray, vocabulary: int) -> Grams:
    """The n-grams that are one word longer."""
    ends = np.flatnonzero((grams.at[:-1] >= 0) & (tokens[1:] != BEGIN)) + 1
    keys = grams.at[ends - 1] * vocabulary + tokens[ends]
    by_key = np.argsort(keys)
    keys, ends = keys[by_key], ends[by_key]
    is_first = np.ones(len(keys), bool)
    is_first[1:] = keys[1:] != keys[:-1]
    at = np.full(len(tokens), -1)
    at[ends] = np.cumsum(is_first) - 1
    first = np.flatnonzero(is_first)
    last = ends[first]
    return Grams(at, last, grams.at[last - 1], grams.at[last], np.diff(first, append=len(keys)))


def _adjusted(grams: Grams, longer: Grams, tokens: np.ndarray, length: int) -> np.ndarray:
    """How many different words precede each n-gram; its occurrences where it begins with BEGIN, which none precedes."""
    count = np.bincount(longer.suffix, minlength=len(grams.count))
    if length > 1:
        opening = tokens[grams.last - (length - 1)] == BEGIN
        count[opening] = grams.count[opening]
    return count
