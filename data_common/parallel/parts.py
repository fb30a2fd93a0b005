"""Work in parts whose results are files: the processes of a run share it, and a killed run loses one part."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from data_common.parallel import distributed

Item = TypeVar("Item")


def missing_parts(
    files: Iterable[Path], items: Iterable[Item], exists: Callable[[Path], bool] = Path.exists
) -> Iterator[tuple[Path, Item]]:
    """(file, item) of the parts that are not there yet; the processes of a run (NPROC) share them.

    items: what each part is computed from, in the order of the files. exists: whether a part is there.
    """
    for number, (file, item) in enumerate(zip(files, items, strict=True)):
        if number % distributed.size() == distributed.rank() and not exists(file):
            yield file, item
