"""A file that becomes shorter while it is mapped: one line and exit code 2, where the system would kill the process."""

import ctypes
import os
import signal
from functools import cache

LINE = b"error: an input became shorter while it was read: run again when nothing writes to it\n"


def _end(number: int) -> None:
    """Nothing can be cleared up here: the read that failed would be tried again for ever."""
    os.write(2, LINE)
    os._exit(2)


_handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_end)  # kept as long as the process


@cache
def explain_bus_errors() -> None:
    """From now on. Python's own handlers would only run after the read that cannot end."""
    ctypes.CDLL(None).signal(signal.SIGBUS, _handler)
