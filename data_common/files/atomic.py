"""Output that appears whole or not at all: written beside its place, brought to the disk, renamed."""

import contextlib
import errno
import glob
import json
import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from data_common.files.durable import discard, held, is_same, open_own, open_own_folder, publish, recover
from data_common.messages.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

MANIFEST, WORK = ".manifest.json", ".work"  # of the names of what stages put beside their outputs


def partial_path(path: Path) -> Path:
    """Where `path` is written before it is complete (same folder, so that the rename is atomic)."""
    return path.parent / f".{path.name}.partial"


def manifest_path(output: str | Path) -> Path:
    """Where the manifest of `output` (a file, or a folder such as a model) stands."""
    output = Path(output)
    return output.parent / f"{output.name}{MANIFEST}"


def pending_path(output: str | Path) -> Path:
    """Where a manifest waits until its output is in its place."""
    manifest = manifest_path(output)
    return manifest.with_name(f".{manifest.name}.pending")


@contextlib.contextmanager
def draft_of(path: str | os.PathLike, folder: bool = False) -> Iterator[Path]:
    """Yield a path to write to, kept from other runs until the end; it is removed unless it was renamed by then.

    folder: whether it is an empty folder, else a file; debris of a killed run is overwritten or removed.
    Raises: UserError where its folder cannot be made or written, the disk is full, or another run writes the same.
    """
    given = Path(path)
    place = given.resolve() if given.is_symlink() else given
    draft = partial_path(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            recover(place)
            draft.mkdir(exist_ok=True)
        with held(draft, open_own_folder if folder else open_own, f"another run is writing {given}") as opened:
            try:
                for debris in draft.iterdir() if folder else ():
                    discard(debris)
                yield draft
            finally:  # once it is renamed, one of that name is another run's
                if is_same(draft, opened):
                    with contextlib.suppress(OSError):
                        discard(draft)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise
        if error.filename is not None and str(error.filename) not in map(str, (place, draft, place.parent)):
            raise
        raise UserError(f"cannot write {given}: {error.strerror or error}") from error


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a path to write to; on success what is there takes the place of `path`, else it is removed.

    A reader of `path` sees the old content until the new one is complete, so reading and
    replacing the same file is safe. A symbolic link stays one: what it points to is replaced.
    Raises: UserError as `draft_of`, and where `path` is no regular file.
    """
    _check_kind(Path(path))
    with draft_of(path) as draft:
        yield draft
        publish(draft, Path(path))


def clear_partials(place: Path) -> None:
    """Remove what unfinished calls have left of `place`, whatever they were to put there."""
    name = glob.escape(partial_path(place).name)
    for kind in ("", ".json", "-packed", "-model-*--*-????????", "-repo-*--*-????????"):
        for leftover in place.parent.glob(f"{name}{kind}"):
            discard(leftover)


def _check_kind(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise UserError(f"cannot write {path}: it is a folder" if path.is_dir() else f"{path} is no regular file")


def write_text(path: str | os.PathLike, text: str) -> None:
    """A UTF-8 file, whole or not at all. Raises: UserError as `atomic_file`."""
    with atomic_file(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names need not be UTF-8


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises: OSError where it cannot be read, or is no file; ValueError for broken JSON."""
    if not path.is_file() and path.exists():  # a pipe would be waited for
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return json.loads(path.read_text(encoding="utf-8"))


def save_array(path: Path, array: "np.ndarray") -> None:
    """`array` as an .npy file, whole or not at all. Raises: UserError as `atomic_file`."""
    with atomic_file(path) as draft, open(draft, "wb") as file:
        write_array(file, array)


def write_array(file: BinaryIO, array: "np.ndarray") -> None:
    """What `np.save` writes to an opened file, without its way past Python, on which the last error is lost."""
    import numpy as np  # `utils.py --help` does without

    array = np.asarray(array, order="C")
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array.reshape(-1).view(np.uint8).data if array.size else b"")


def save_figure(path: Path, figure: "Figure", dpi: int = 120) -> None:
    """A matplotlib figure as PNG, whole or not at all. Raises: UserError as `atomic_file`."""
    image = BytesIO()
    figure.savefig(image, dpi=dpi, format="png", metadata={"Software": None})
    with atomic_file(path) as draft:
        draft.write_bytes(image.getbuffer())


def check_writable(path: Path) -> None:
    """Raises UserError where `path` cannot be written: better known before the work than after it."""
    _check_kind(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path}: {folder} is no folder that can be written")
