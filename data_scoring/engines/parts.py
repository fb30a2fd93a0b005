"""Work over a corpus, part by part: a part's result is a file, and a part whose file is there is not computed again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_common.calls.progress import Progress
from data_common.files.atomic import atomic_file, save_array
from data_common.models.tokens import batched
from data_common.parallel.parts import missing_parts
from data_common.parallel.processes import forked_map

PART = 2048  # texts or samples: what a killed run loses, what processes share
Arrays = Mapping[str, np.ndarray]


def compute_parts(
    texts: Sequence[str], folder: Path, compute: Callable[[list[str]], Arrays], workers: int, name: str
) -> None:
    """Save `compute` of the texts of every part that is not there yet. name: of the progress bar."""

    def computed(part: tuple[Path, list[str]]) -> tuple[Path, int, Arrays]:
        return part[0], len(part[1]), compute(part[1])

    files = part_files(folder, len(texts))
    done = sum(min(PART, len(texts) - number * PART) for number, file in enumerate(files) if file.exists())
    with Progress(desc=name, total=len(texts), initial=done, unit="text") as progress:
        for path, count, arrays in forked_map(computed, missing_parts(files, batched(texts, PART)), workers):
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


def compute_sample_parts(
    folder: Path,
    groups: Sequence[np.ndarray],
    tokens: np.ndarray,
    compute: Callable[[np.ndarray, Progress], np.ndarray],
    name: str,
) -> None:
    """Save `compute` of each group of samples that is not there yet.

    groups: numbers of the samples of each part. tokens: (samples,), what `compute` tells the progress bar of each.
    name: of that bar.
    """
    missing = list(missing_parts(sample_part_files(folder, len(groups)), groups))
    total = sum(int(tokens[samples].sum()) for _, samples in missing)
    with Progress(desc=name, total=total, unit="token", unit_scale=True) as progress:
        for path, samples in missing:
            save_array(path, compute(samples, progress))


def sample_part_files(folder: Path, groups: int) -> list[Path]:
    """The files of so many groups of samples, in order."""
    return [folder / f"part-{number:05}.npy" for number in range(groups)]
