"""The one exception that a user is meant to see, and the exit code that follows from it."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

SAID = "said"  # a file in the log folder of a process of torchrun: its error is on the screen


class UserError(Exception):
    """Something the user can cure: printed as one `error: ...` line, exit code 2, no traceback."""


def exit_code(work: Callable[[], None]) -> int:
    """Run `work`: 0 where it went well, 2 with one line on stderr for what the user can cure, 130 for Ctrl-C."""
    try:
        work()
    except UserError as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        _say(f"error: {error}: {sys.executable} -m pip install -r requirements.txt")
        return 2
    except Exception as error:
        if type(error).__name__ not in ("OutOfMemoryError", "MemoryError"):  # torch's, without importing torch
            raise
        _say("error: out of memory: lower batch_size, batch_tokens or max_length")
        return 2
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
    if log := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        with contextlib.suppress(OSError):
            Path(log).with_name(SAID).touch()
