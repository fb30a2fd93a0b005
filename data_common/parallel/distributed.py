"""The processes that share one run: which one this is, waiting for each other, adding up over all.

`NPROC=n` before a command starts n of them (launch.py). In a single process every function here does nothing.
"""

import atexit
import os
import time
from collections.abc import Sequence
from datetime import timedelta

import numpy as np

PATIENCE = timedelta(days=7)  # one process may tokenize or fit for long while the others wait
LAST_WORDS = 30  # seconds


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Number of this process on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def size() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def wait() -> None:
    """Until all processes are here."""
    add_up([np.zeros(1)])


def add_up(parts: Sequence) -> None:
    """Replace every array or tensor by its sum over all processes, in place."""
    if size() == 1:
        return
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)  # else its threads may outlive the interpreter
    try:
        for part in parts:
            dist.all_reduce(torch.from_numpy(part) if isinstance(part, np.ndarray) else part)
    except RuntimeError:  # most likely another process failed: that one has the word, and the launcher ends this one
        time.sleep(LAST_WORDS)
        raise
