"""Standard output and error of a run: hidden characters are made visible, and no reader can end the work.

`| head -1` closes a pipe, a log may lie on a full disk: a stage goes on without its prints, and its exit code tells of
its work. Where the text is all that was asked for (--help, --dry-run), a closed pipe ends the call with 141, as it does
for the programs of the shell, and a full disk with one line and 2.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from data_common.messages.visible import IN_LINES, IN_PROGRESS, spelled

CLOSED_PIPE = 141  # 128 + SIGPIPE
STANDARD_INPUT = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


class Unread(Exception):
    """Nobody takes the text that a call is made for. The argument: the OSError that told it."""


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Everything that is printed inside goes through a guard."""
    with contextlib.ExitStack() as stack:
        for name, hidden in (("stdout", IN_LINES), ("stderr", IN_PROGRESS)):
            stream = getattr(sys, name) or stack.enter_context(open(os.devnull, "w"))  # None where it is closed
            guard = _Guard(stream, hidden)
            setattr(sys, name, guard)
            stack.callback(setattr, sys, name, stream)
            stack.callback(guard.flush)
        yield


def say(text: str) -> None:
    """Print what a call was made for. Raises: Unread where nobody takes it."""
    print(text.removesuffix("\n"), flush=True)
    if error := failure():
        raise Unread(error)


def failure() -> OSError | None:
    """Why standard output is written no more; None where it is."""
    sys.stdout.flush()
    return getattr(sys.stdout, "failure", None)


def detach_input(words: Sequence[str]) -> None:
    """Standard input reads as empty from here on, in child processes too, unless one of `words` names it as a file.

    So nothing can be asked there, and `while read f; do bash STAGE/entry.sh "$f" ...; done <list` keeps its list.
    Descriptors 0 to 2 that the caller closed are opened, or the next file that is written would become one of them.
    """
    while (nowhere := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(nowhere, True)
    if not any(word.split("=", 1)[-1] in STANDARD_INPUT for word in words):
        os.dup2(nowhere, 0)
    os.close(nowhere)


class _Guard:
    """A text stream that never fails: after the first error of the operating system what is written is dropped."""

    def __init__(self, stream: TextIO, hidden: re.Pattern[str]):
        self.stream, self.hidden = stream, hidden
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        shown = self.hidden.sub(spelled, text)
        with self._tolerant():
            try:
                self.stream.write(shown)
            except UnicodeEncodeError:  # a terminal that is not UTF-8
                encoding = self.stream.encoding
                self.stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        with self._tolerant():
            self.stream.flush()

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
            with contextlib.suppress(OSError, ValueError):  # what is left in buffers goes nowhere
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)
