"""`map` by several threads or processes: in order, with few items in flight."""

import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from data_common.messages.errors import UserError

PARENT_DEATH_SIGNAL = 1  # of prctl(2)

_function: Callable


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """From now on this process is killed when the thread that started it ends, however that ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)


def threaded_map(function: Callable, items: Iterable, threads: int) -> Iterator[Any]:
    """`map` over threads, for functions that let go of the interpreter lock."""
    with ThreadPoolExecutor(threads) as pool:
        yield from _in_order(pool, function, items, 2 * threads)


def forked_map(function: Callable, items: Iterable, workers: int) -> Iterator[Any]:
    """`map` over processes; within this one where `workers` is one.

    The processes are forked: `function` may hold a loaded model or open files, which they share.
    Raises: UserError where a process was killed.
    """
    if workers == 1:
        yield from map(function, items)
        return
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor  # slow to import
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(workers, get_context("fork"), initializer=_begin, initargs=(function, os.getpid()))
    try:
        yield from _in_order(pool, _call, items, 2 * workers)
    except BrokenProcessPool:
        raise UserError("a worker process was killed, most likely for lack of memory") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(pool: Executor, function: Callable, items: Iterable, ahead: int) -> Iterator[Any]:
    """Results in the order of the items; no more than `ahead` items are taken before their results are wanted."""
    waiting: deque = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) == ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _begin(function: Callable, parent: int) -> None:
    """The first thing that a worker does: it leaves Ctrl-C to the process that started it, and ends with that one."""
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)
