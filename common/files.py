"""Output that appears whole or not at all: written beside its place, fsynced, renamed."""

import contextlib
import fcntl
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
    replacing the same file is safe. Debris of a killed run is overwritten by the next. A symbolic link stays one:
    what it points to is replaced.

    Raises: UserError where the folder cannot be made or written, the disk is full, or another run writes the same.
    """
    path = Path(path)
    _check_kind(path)
    path = path.resolve() if path.is_symlink() else path
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, os.O_RDWR | os.O_CREAT) as written:
            try:
                yield partial
                os.fsync(written)
                os.replace(partial, path)
            except BaseException:  # once it is renamed, a file of that name is another run's
                with contextlib.suppress(OSError):
                    partial.unlink()
                raise
    except OSError as error:
        if error.filename is not None and str(error.filename) not in map(str, (path, partial, path.parent)):
            raise
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def locked(path: Path, flags: int) -> Iterator[int]:
    """`partial_path(path)`, a file or a folder, opened with `flags` and kept from other runs. -> its descriptor

    Raises: UserError where another run has it.
    """
    partial = partial_path(path)
    while True:
        descriptor = os.open(partial, flags, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another run is writing {path}") from None
            except OSError:  # a file system without locks
                pass
            if _is_same(partial, descriptor):  # else another run has just finished, and it is no longer there
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _check_kind(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise UserError(f"cannot write {path}: it is a folder" if path.is_dir() else f"{path} is no regular file")


def write_text(path: str | os.PathLike, text: str) -> None:
    """A UTF-8 file, whole or not at all. Raises: UserError as `atomic_file`."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names need not be UTF-8


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
    _check_kind(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
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
