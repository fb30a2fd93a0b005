"""Output that appears whole or not at all: written beside its place, fsynced, renamed."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure


def partial_path(path: Path) -> Path:
    """Where `path` is written before it is complete (same folder, so that the rename is atomic)."""
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a path to write to; on success it is fsynced and renamed to `path`, else removed.

    A reader of `path` sees the old content until the new one is complete, so reading and
    replacing the same file is safe. Debris of a killed run is overwritten by the next.

    Raises: UserError where the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    partial = partial_path(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.filename is not None and str(error.filename) not in map(str, (path, partial, path.parent)):
            raise
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write_text(path: str | os.PathLike, text: str) -> None:
    """A UTF-8 file, whole or not at all. Raises: UserError as `atomic_file`."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def save_array(path: Path, array: "np.ndarray") -> None:
    """`array` as an .npy file, whole or not at all. Raises: UserError as `atomic_file`."""
    import numpy as np  # `utils.py --help` does without

    with atomic_file(path) as partial, open(partial, "wb") as file:
        np.save(file, array)


def save_figure(path: Path, figure: "Figure", dpi: int = 120) -> None:
    """A matplotlib figure as PNG, whole or not at all. Raises: UserError as `atomic_file`."""
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=dpi, format="png", metadata={"Software": None})


def check_writable(path: Path) -> None:
    """Raises UserError where `path` cannot be written: better known before the work than after it."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path}: {folder} is no folder that can be written")


def replace_folder(partial: Path, folder: Path) -> None:
    """Put the finished folder `partial` in the place of `folder` (removed first, if there)."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)
