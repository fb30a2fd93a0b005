"""Writing an n-gram model in the ARPA text format, which KenLM and other toolkits load."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data_common.files.atomic import atomic_file
from data_scoring.kenlm.estimator import BEGIN, Order

BLOCK = 2**16  # n-grams formatted at a time
NEVER = -99.0  # log10 of the probability of what is never predicted


def write_arpa(path: Path, orders: Iterable[Order], order: int, tokens: np.ndarray, words: np.ndarray) -> list[int]:
    """Write the model of `estimate(tokens, order, len(words))`; returns the number of n-grams of each length.

    words: the word of each id, (v,) of objects. Raises: UserError where the disk is full.
    """
    counts: list[int] = [0] * order
    with atomic_file(path) as partial, open(partial, "wb") as file:
        file.write(_header(counts))  # its place; the numbers are known at the end
        for grams in orders:
            file.write(f"\\{grams.length}-grams:\n".encode())
            for start in range(0, len(grams.last), BLOCK):
                file.write(_lines(grams, slice(start, start + BLOCK), grams.length == order, tokens, words).encode())
            file.write(b"\n")
            counts[grams.length - 1] = len(grams.last)
        file.write(b"\\end\\\n")
        file.seek(0)
        file.write(_header(counts))
    return counts


def _header(counts: Sequence[int]) -> bytes:
    """Of the same length for all counts."""
    lines = [f"ngram {length}={count:012}" for length, count in enumerate(counts, 1)]
    return ("\\data\\\n" + "\n".join(lines) + "\n\n").encode()


def _lines(grams: Order, block: slice, highest: bool, tokens: np.ndarray, words: np.ndarray) -> str:
    """The n-grams of the block: probability, words and (but in the highest order) backoff, a line each."""
    last = grams.last[block]
    ids = [last] if grams.length == 1 else [tokens[last - before] for before in reversed(range(grams.length))]
    probability = _log10(grams.probability[block])
    if grams.length == 1:
        probability[last == BEGIN] = NEVER
    columns = [probability, *(words[column] for column in ids)]
    pattern = "%.6f\t" + " ".join(["%s"] * grams.length)
    if not highest:
        columns.append(_log10(grams.backoff[block]))
        pattern += "\t%.6f"
    return "".join(map((pattern + "\n").__mod__, zip(*(column.tolist() for column in columns), strict=True)))


def _log10(weights: np.ndarray) -> np.ndarray:
    return np.log10(np.maximum(weights, 10**NEVER))
