"""Seconds of alternating runs, and bytes at the peak of a fresh process."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import torch


class Run(NamedTuple):
    """What a way took, in seconds, and gave."""

    wall: float
    cpu: float
    result: Any


def alternate(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Run]:
    """Run the ways in turn `repeats` times after one round that does not count; median seconds, last result."""
    rounds = [{name: _timed(way) for name, way in ways.items()} for _ in range(repeats + 1)][1:]
    return {name: _median([results[name] for results in rounds]) for name in ways}


def _timed(way: Callable[[], Any]) -> Run:
    synchronise()
    wall, cpu = time.perf_counter(), time.process_time()
    result = way()
    synchronise()
    return Run(time.perf_counter() - wall, time.process_time() - cpu, result)


def _median(runs: list[Run]) -> Run:
    wall, cpu = (statistics.median(run[i] for run in runs) for i in (0, 1))
    return Run(wall, cpu, runs[-1].result)


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_fresh_process(function: Callable, *arguments: Any) -> Any:
    """Call a function of a module in a new process, whose C library gives freed blocks back at once."""
    # Else it keeps freed blocks for later, and the resident memory is more than what is held.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def resident(name: str = "VmRSS") -> int:
    """Bytes of resident memory: VmRSS now, VmHWM at the peak since `forget_peak`."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


def forget_peak() -> None:
    """Count the peak of resident memory from here."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as reset:
        reset.write("5")


def print_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A Markdown table; the first column is text, the others are formatted numbers."""
    print(f"\n{title}\n")
    for row in (columns, ["---", *["---:"] * (len(columns) - 1)], *rows):
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
