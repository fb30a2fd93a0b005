"""deita, a block of rows at a time, against a numpy loop row by row: CPU seconds of both, and equal rows.

python -m benchmarks.deita [--rows N] [--dimensions D] [--repeats K]
"""

import argparse

import numpy as np

from benchmarks.measure import alternate
from data_selection.deita.method import different


def row_by_row(embedding: np.ndarray, order: np.ndarray, count: int, similarity: float) -> np.ndarray:
    """Places of the accepted rows: a matrix times a vector for each row."""
    accepted, kept = [], np.empty((count, embedding.shape[1]), np.float32)
    for place, row in enumerate(order.tolist()):
        if len(accepted) == count:
            break
        if not (kept[: len(accepted)] @ embedding[row] > similarity).any():
            kept[len(accepted)] = embedding[row]
            accepted.append(place)
    return np.array(accepted)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], prog="python -m benchmarks.deita")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    wanted = parser.parse_args()
    generator = np.random.default_rng(0)
    centres = generator.normal(
        size=(wanted.rows // 20, wanted.dimensions)
    )  # about half of the rows are near to another
    vectors = centres[generator.integers(len(centres), size=wanted.rows)]
    vectors = vectors + generator.uniform(0.2, 0.8, (wanted.rows, 1)) * generator.normal(size=vectors.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    order = generator.permutation(wanted.rows)
    ways = {
        "blocked": lambda: different(vectors, order, wanted.rows, 0.9)[0],
        "row by row": lambda: row_by_row(vectors, order, wanted.rows, 0.9),
    }
    runs = alternate(ways, wanted.repeats)
    blocked, loop = runs.values()
    assert np.array_equal(blocked.result, loop.result)
    print(f"{wanted.rows:,} rows of {wanted.dimensions} numbers, {len(loop.result):,} accepted, the same by both")
    print(f"blocked {blocked.cpu:.2f} CPU s, row by row {loop.cpu:.2f} CPU s: {loop.cpu / blocked.cpu:.1f} times")


if __name__ == "__main__":
    main()
