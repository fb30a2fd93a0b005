"""Files of our own, opened safely; finished ones brought to the disk and then into their place.

The order is always the same: write, flush, fsync the file, rename, fsync the folder; only then the record that vouches
for it. So a record that is there after a power cut speaks of what is there too.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from data_common.messages.errors import UserError
from data_common.messages.visible import visible

UMASK = os.umask(0o077)  # can only be read by setting it
os.umask(UMASK)
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of renameat2(2)
NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)  # the kernel or the file system cannot


def open_own(path: Path, flags: int = os.O_RDWR) -> int:
    """A descriptor of a partial, lock or work file, made if it is not there; nothing in it is changed.

    Raises: UserError where something else has that name: a symbolic link, which would lead to another file, a file with
    a second name, or one of another user.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        with contextlib.suppress(FileNotFoundError):  # it has just gone
            return _checked(path, lambda: os.open(path, flags), stat.S_ISREG)


def open_own_folder(path: Path) -> int:
    """The same for a folder that is there."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return _checked(path, lambda: os.open(path, flags), stat.S_ISDIR)


def _checked(path: Path, opened: Callable[[], int], is_kind: Callable[[int], bool]) -> int:
    try:
        descriptor = opened()
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and path.is_symlink():
            raise UserError(f"{path} is a symbolic link, which is not followed: remove it") from None
        raise
    found = os.fstat(descriptor)
    names = 1 if stat.S_ISDIR(found.st_mode) else found.st_nlink  # 0: it has just been replaced
    if is_kind(found.st_mode) and names <= 1 and found.st_uid == os.geteuid():
        return descriptor
    os.close(descriptor)
    raise UserError(f"{path} is in the way, and no file that a run of yours has left: remove it")


@contextlib.contextmanager
def held(path: Path, opened: Callable[[Path], int], busy: str, wait: bool = False) -> Iterator[int]:
    """`path`, opened by `opened` and kept from other runs until the end. -> its descriptor

    busy: the message where another run has it. wait: until that one lets go, instead.
    Raises: UserError with `busy`.
    """
    while True:
        descriptor = opened(path)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise UserError(busy) from None
            except OSError:  # a file system without locks
                pass
            if is_same(path, descriptor):  # else another run has just finished, and it is no longer there
                yield descriptor
                return
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def lock_file(path: Path, busy: str, wait: bool = False) -> Iterator[None]:
    """A lock with a file of its own, which is removed at the end. Raises: as `held`."""
    with held(path, open_own, busy, wait):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # one that waits for it finds it gone, and makes another


def remove_lock(path: Path) -> None:
    """Remove what a killed run has left of `lock_file`; where a run holds it, nothing happens."""
    if path.is_file():
        with contextlib.suppress(UserError), lock_file(path, "held"):
            pass


def is_same(path: Path, descriptor: int) -> bool:
    """Whether `path` itself, not what it may link to, is the opened file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def flush(path: Path) -> None:
    """A file or a folder itself, without what lies in it, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # a file system that does not know it
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def flush_tree(path: Path) -> None:
    """A file, or all files and folders below a folder, to the disk; with the permissions that the umask gives.

    Libraries write by way of temporary files that only their owner may read.
    """
    for folder, _, names in os.walk(path, topdown=False) if path.is_dir() else [(path.parent, (), [path.name])]:
        for file in (Path(folder, name) for name in names):
            if not file.is_symlink():
                if stat.S_IMODE(file.stat().st_mode) == 0o600 != 0o666 & ~UMASK:
                    file.chmod(0o666 & ~UMASK)
                flush(file)
        if path.is_dir():
            flush(Path(folder))


def publish(draft: Path, place: Path) -> None:
    """Put the finished file or folder `draft` in its place, whole: on the disk first, and then in one step.

    A symbolic link at `place` stays one: what it points to is replaced.
    """
    place = place.resolve() if place.is_symlink() else place
    flush_tree(draft)
    if place.exists() and (mode := stat.S_IMODE(place.stat().st_mode)) != stat.S_IMODE(draft.stat().st_mode):
        draft.chmod(mode)  # what is replaced keeps its permissions
        flush(draft)
    if draft.is_dir() and place.is_dir():
        _replace_folder(draft, place)
    else:
        os.replace(draft, place)
        flush(place.parent)


def _replace_folder(draft: Path, place: Path) -> None:
    """A folder that holds something cannot be renamed over: the two are exchanged."""
    old = _old(place)
    discard(old)  # of a killed run; what it stood for is in its place
    if exchange(draft, place):
        with contextlib.suppress(OSError):  # it is removed below all the same
            os.rename(draft, old)
    else:
        os.rename(place, old)
        try:
            os.rename(draft, place)
        except OSError:
            os.rename(old, place)
            raise
    flush(place.parent)
    discard(old)
    discard(draft)


def exchange(one: Path, other: Path) -> bool:
    """Let two files or folders change places in one step; False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    if (number := ctypes.get_errno()) in NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def recover(place: Path) -> None:
    """Put a folder back that a run was killed in the middle of replacing, where that takes two steps."""
    left = [path for path in (_old(place), place.parent / f".{place.name}.old") if path.is_dir()]  # now, and once
    if not place.exists() and left:
        with contextlib.suppress(FileNotFoundError):  # another process was first
            os.rename(left[0], place)
        print(f"note: {visible(place)} is back: a run was killed while it replaced it")


def forget_old(place: Path) -> None:
    """Remove the folder that was replaced by what is in its place, if a run was killed before it did."""
    if place.exists():
        discard(_old(place))


def _old(place: Path) -> Path:
    return place.parent / f".{place.name}.delt-old"


def discard(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
