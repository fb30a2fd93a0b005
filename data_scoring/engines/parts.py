"""Work over the texts of a corpus, part by part: a part's result is a file, and what is there is not made again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_common.calls.progress import Progress
from data_common.files.atomic import atomic_file
from data_common.models.tokens import batched
from data_common.parallel.processes import forked_map

PART = 2048  # texts: what a killed run loses, what processes share
Arrays = Mapping[str, np.ndarray]


def compute_parts(
    texts: Sequence[str], folder: Path, compute: Callable[[list[str]], Arrays], workers: int, name: str
) -> None:
    """Save `compute` of the texts of every part that is not there yet. name: of the progress bar."""

    def computed(part: tuple[Path, list[str]]) -> tuple[Path, int, Arrays]:
        return part[0], len(part[1]), compute(part[1])

    def missing(progress: Progress) -> Iterator[tuple[Path, list[str]]]:
        for path, part in zip(part_files(folder, len(texts)), batched(texts, PART), strict=True):
            if path.exists():
                progress.update(len(part))
            else:
                yield path, part

    with Progress(desc=name, total=len(texts), unit="text") as progress:
        for path, count, arrays in forked_map(computed, missing(progress), workers):
            with atomic_file(path) as draft, open(draft, "wb") as file:
                np.savez(file, **arrays)
            progress.update(count)


def part_files(folder: Path, count: int) -> list[Path]:
    """The files of the parts of `count` texts, in order."""
    return [folder / f"part-{number:05}.npz" for number in range(-(-count // PART))]


def saved_parts(folder: Path, count: int) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of each part, in order."""
    for path in part_files(folder, count):
        with np.load(path) as arrays:
            yield dict(arrays)
