"""A stream that has failed once goes on failing silently."""

import errno
import os

from data_common.messages.terminal import _Guard
from data_common.messages.visible import IN_LINES


class Full:
    encoding = "utf-8"

    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fileno(self):
        raise ValueError("no file")


def test_every_later_write_is_dropped():
    guard = _Guard(Full(), IN_LINES)
    for _ in range(3):
        assert guard.write("text\n") == 5
        guard.flush()
    assert guard.failure.errno == errno.ENOSPC
