"""One function over many items by several processes, in order, with few items in flight."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from common.errors import UserError

_function: Callable


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def ordered_map(function: Callable, items: Iterable, workers: int) -> Iterator[Any]:
    """`map` over `workers` processes. They are forked: `function` may hold a loaded model, which they share.

    Raises: UserError where a process was killed.
    """
    if workers == 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, context, initializer=_remember, initargs=(function,))
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_call, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError("a worker process was killed, most likely for lack of memory: set fewer workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _remember(function: Callable) -> None:
    global _function
    _function = function


def _call(item: Any) -> Any:
    return _function(item)
