"""How many rows each cluster or source gives, so that they add up to the number that is wanted."""

import numpy as np


def proportional(sizes: np.ndarray, count: int, preference: np.ndarray) -> np.ndarray:
    """Shares of `count` in proportion to `sizes`, by largest remainder; all where `count` is larger, (clusters,).

    Of equal remainders the one with the higher preference is rounded up. sizes, preference: (clusters,).
    """
    total = int(sizes.sum())
    if count >= total:
        return sizes.copy()
    exact = [count * int(size) for size in sizes]  # products may be beyond 64 bits
    shares, remainders = np.array([one // total for one in exact]), np.array([one % total for one in exact])
    shares[np.lexsort((-preference, -remainders))[: count - shares.sum()]] += 1
    return shares


def water_filling(sizes: np.ndarray, count: int) -> np.ndarray:
    """Shares of `count` that are as equal as sizes allow: min(size, level) of each, and what is left to larger ones.

    From the smallest on, each gets an equal part of what is left, rounded down, or all that it has. sizes: (clusters,).
    """
    shares, left = np.zeros_like(sizes), min(count, int(sizes.sum()))
    for place, one in enumerate(np.argsort(sizes, kind="stable")):
        shares[one] = min(int(sizes[one]), left // (len(sizes) - place))
        left -= int(shares[one])
    return shares
