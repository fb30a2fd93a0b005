"""Which vectors are near each other, exactly: the largest cosines, block by block."""

import numpy as np

from data_common.messages.errors import UserError

MEMORY = 2**28  # bytes of similarities and vectors that are held at a time


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors, (n, width), in float32 and of length 1; one of zeros stays so. Raises: UserError for NaN."""
    exact = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise UserError("some vectors are no numbers, as of texts without a token: such rows are near to none")
    return exact / np.maximum(lengths, np.finfo(np.float32).tiny)


def similarities(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cosine of each vector of a with each of b, (len(a), len(b)) float32.

    Raises: UserError where their widths differ: they are of two embedders.
    """
    check_same_space(a, b)
    return unit(a) @ unit(b).T


def top_k(a: np.ndarray, b: np.ndarray, k: int, memory: int = MEMORY) -> tuple[np.ndarray, np.ndarray]:
    """For each vector of a, the k vectors of b with the largest cosine, the largest first, of equal ones the earlier.

    a: (n, width). b: (m, width); either may be a memory map. memory: bytes that similarities and copies of vectors may
    take, about. -> (numbers of b, (n, min(k, m)) int64; cosines, the same shape, float32).
    Raises: UserError where the widths differ.
    """
    check_same_space(a, b)
    k, width = min(k, len(b)), a.shape[1]
    side = max(1, int(np.sqrt(width**2 + memory / 16) - width))  # side^2 similarities thrice, 2 side vectors: 4 bytes
    numbers = np.empty((len(a), k), np.int64)
    cosines = np.empty((len(a), k), np.float32)
    for begin in range(0, len(a), side):
        block = unit(a[begin : begin + side])
        best = np.empty((len(block), 0), np.float32)
        which = np.empty((len(block), 0), np.int64)
        for first in range(0, len(b), side):
            found = block @ unit(b[first : first + side]).T
            some = _largest(found, k)
            best = np.concatenate([best, np.take_along_axis(found, some, 1)], 1)
            which = np.concatenate([which, some + first], 1)
            kept = _largest(best, k)
            best, which = np.take_along_axis(best, kept, 1), np.take_along_axis(which, kept, 1)
        numbers[begin : begin + side], cosines[begin : begin + side] = which, best
    return numbers, cosines


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest values of each row, largest first, of equal ones the earlier: (n, min(k, columns))."""
    if k < values.shape[1]:
        bound = -np.partition(-values, k - 1, axis=1)[:, k - 1 : k] if k else np.inf
        above, equal = values > bound, values == bound
        above |= equal & (equal.cumsum(1) <= k - above.sum(1, keepdims=True))
        columns = np.nonzero(above)[1].reshape(len(values), k)
    else:
        columns = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    order = np.argsort(-np.take_along_axis(values, columns, 1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, 1)


def check_same_space(a: np.ndarray, b: np.ndarray) -> None:
    """Raises UserError where the vectors of a and b are of two embedders, which their widths show."""
    if a.shape[1] != b.shape[1]:
        raise UserError(f"vectors of {a.shape[1]} and of {b.shape[1]} numbers: they are of different embedders")
