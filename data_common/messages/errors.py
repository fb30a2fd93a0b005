"""The one exception that a user is meant to see, and the exit code that follows from it."""

import contextlib
import errno
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from data_common.messages.commands import installing
from data_common.messages.redaction import protect_secrets
from data_common.messages.terminal import CLOSED_PIPE, Unread, failure, guarded
from data_common.messages.visible import brief, visible

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
LONGEST = 4000  # characters of a line of a message; of a value in it fewer are shown
# Of libraries that have errors of their own.
DISK_SIGNS = ("(os error ", "PytorchStreamWriter failed", "inline_container.cc")
MEMORY_KEYS = "batch_size, batch_tokens, max_length, workers or NPROC"
SAID = "said"  # a file in the log folder of a process of torchrun: its error is on the screen


class UserError(Exception):
    """Something the user can cure: printed as one `error: ...` line, exit code 2, no traceback.

    Further arguments are further lines. Hidden characters of all are spelled out.
    """

    def __str__(self) -> str:
        return "\n  ".join(brief(visible(line), LONGEST) for line in self.args)


def exit_code(work: Callable[[], None]) -> int:
    """Run `work`: 0 where it went well, 2 with one line on stderr for what the user can cure, 130 for Ctrl-C.

    What it prints is guarded (data_common/messages/terminal.py).
    """
    protect_secrets()
    with guarded():
        try:
            return _exit_code(work)
        except SystemExit as end:  # of argparse's --help
            if not end.code and (error := failure()):
                return _unread(error)
            raise


def _exit_code(work: Callable[[], None]) -> int:
    try:
        work()
    except UserError as error:
        _say(f"error: {error}")
        return 2
    except Unread as unread:
        return _unread(unread.args[0])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        _say(f"error: {error}: {sys.executable} -m pip install {installing(error.name)}")
        return 2
    except Exception as error:
        if is_of_memory(error):
            _say(f"error: out of memory{_memory_limit()}: lower {MEMORY_KEYS}, as far as the call has them")
            return 2
        if isinstance(error, OSError) and (error.filename or error.errno in DISK):
            place = f"{visible(os.fsdecode(error.filename))}: " if error.filename else ""
            _say(f"error: {place}{error.strerror}")
            return 2
        first = str(error).partition("\n")[0]
        if isinstance(error, RuntimeError) and first.startswith("Symlink loop"):  # of pathlib, before Python 3.13
            _say(f"error: {visible(first)}")
            return 2
        if any(sign in first for sign in DISK_SIGNS):
            _say(f"error: cannot read or write (is the disk full?): {visible(first)}")
            return 2
        raise
    if (error := failure()) and error.errno != errno.EPIPE:
        _say(f"warning: what was printed could not be written ({error.strerror}); the work is done")
    return 0


def is_of_memory(error: BaseException) -> bool:
    """Whether memory could not be had; libraries say so in many ways."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    signs = ("can't allocate memory", "not enough memory", "can't start new thread")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def _memory_limit() -> str:
    """What limits this process, where it is not the machine."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return "" if limit == resource.RLIM_INFINITY else f" (ulimit -v allows {limit / 1e9:.2f} GB)"


def _unread(error: OSError) -> int:
    if error.errno == errno.EPIPE:
        return CLOSED_PIPE
    _say(f"error: cannot write standard output: {error.strerror}")
    return 2


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
    if log := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        with contextlib.suppress(OSError):
            Path(log).with_name(SAID).touch()
