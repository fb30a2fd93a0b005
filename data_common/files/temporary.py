"""Temporary folders and files: what killed calls left is removed by the next, and a full disk names TMPDIR."""

import contextlib
import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from data_common.files.durable import discard, open_own_folder
from data_common.messages.errors import UserError

YOUNG = 60  # seconds: one that has just been made may not be locked yet
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """A folder for as long as the call lasts, `delt-KIND-...`; abandoned ones of the kind are removed first.

    Raises: UserError where none can be made.
    """
    _remove_abandoned(kind)
    with told_of_temporary():
        folder = Path(tempfile.mkdtemp(prefix=f"delt-{kind}-"))
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield folder
    finally:
        discard(folder)
        os.close(descriptor)


def _remove_abandoned(kind: str) -> None:
    """Whoever made a folder holds a lock on it until the end."""
    for folder in Path(tempfile.gettempdir()).glob(f"delt-{kind}-*"):
        with contextlib.suppress(OSError, UserError):  # of another user, or removed meanwhile
            if time.time() - folder.stat().st_mtime < YOUNG:
                continue
            descriptor = open_own_folder(folder)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                discard(folder)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def told_of_temporary() -> Iterator[None]:
    """Raises UserError for a full disk, with the folder and what moves it. For writes to temporary files only."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        place = tempfile.gettempdir()
        raise UserError(f"cannot write the temporary folder {place}: {error.strerror} (TMPDIR moves it)") from error
