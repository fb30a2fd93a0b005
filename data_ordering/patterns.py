"""Maths that orderings share. An order is an array of row numbers; each function rearranges one."""

from collections.abc import Callable, Iterable

import numpy as np

from data_common.calls.decimals import as_written


def ranked(score: np.ndarray, ascending: bool) -> np.ndarray:
    """Row numbers from low to high score (or high to low); equal scores keep the order of the input. (n,) -> (n,)."""
    return np.argsort(score if ascending else -score, kind="stable")


def fold(order: np.ndarray, layers: int) -> np.ndarray:
    """order[0::layers], order[1::layers], ..., one after the other. (n,) -> (n,); 1 layer changes nothing."""
    return np.concatenate(_layers(order, layers))


def zigzag(order: np.ndarray, layers: int) -> np.ndarray:
    """As `fold`, but every second layer runs backwards, so that neighbours stay neighbours. (n,) -> (n,)."""
    return np.concatenate([layer[::-1] if number % 2 else layer for number, layer in enumerate(_layers(order, layers))])


def arrange_around_splits(
    order: np.ndarray, num_sections: int, folding_ratio: float, arrange: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Cut the order into sections and `arrange` the window around each cut; all else stays. (n,) -> (n,).

    Cuts are round(n i / num_sections), a window reaches round(n folding_ratio) to both sides, halves round to even;
    a window begins where the one before it ended, if they overlap.
    """
    n, result, cursor = len(order), order.copy(), 0
    radius = round(as_written(folding_ratio) * n)
    num_sections = min(num_sections, 2 * n + 1)  # from there on every position is a cut, and more change nothing
    for section in range(1, num_sections):
        split = round(n * section / num_sections)
        begin, cursor = max(cursor, split - radius), min(n, split + radius)
        result[begin:cursor] = arrange(order[begin:cursor])
    return result


def shuffled_in_windows(order: np.ndarray, window_size: int, generator: np.random.Generator) -> np.ndarray:
    """Shuffle inside consecutive windows of `window_size` positions; 0 or 1 leaves the order as it is. (n,) -> (n,)."""
    window_size = min(window_size, len(order) + 1)
    if window_size < 2:
        return order
    full = len(order) - len(order) % window_size
    windows = generator.permuted(order[:full].reshape(-1, window_size), axis=1)
    return np.concatenate([windows.ravel(), generator.permutation(order[full:])])


def equal_parts(order: np.ndarray, count: int) -> list[np.ndarray]:
    """Consecutive parts whose sizes differ by at most one row, the larger ones first; none is empty but of no rows."""
    return np.array_split(order, max(1, min(count, len(order))))


def each_shuffled(parts: Iterable[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """The parts one after the other, each of them shuffled. (m_1,), (m_2,), ... -> (m_1 + m_2 + ...,)."""
    return np.concatenate([generator.permutation(part) for part in parts])


def _layers(order: np.ndarray, layers: int) -> list[np.ndarray]:
    """Layer l holds order[l], order[l + layers], ...; at least one layer, none empty but that of an empty order."""
    return [order[layer::layers] for layer in range(max(1, min(layers, len(order))))]
