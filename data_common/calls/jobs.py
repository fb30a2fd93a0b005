"""Chains of calls of our own stages as jobs: side by side where they can be, and none is done twice."""

import concurrent.futures
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_common.calls.stage import REPOSITORY


@dataclass(frozen=True)
class Job:
    """Something to do once `needs` are done."""

    name: str
    needs: Sequence[str]
    do: Callable[[], None]
    done: Callable[[], bool]


def run_jobs(jobs: Sequence[Job], workers: int, minutes: float = float("inf")) -> list[str]:
    """Do the jobs, `workers` at a time, the first ready one first; none starts after `minutes`. -> what failed."""
    waiting = {job.name: job for job in jobs if not job.done()}
    print(f"{len(jobs) - len(waiting)} of {len(jobs)} jobs are done", flush=True)
    failed, running, begun = [], {}, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        while waiting or running:
            late = time.monotonic() - begun > 60 * minutes
            unfinished = {*waiting, *(job.name for job in running.values()), *failed}
            ready = [] if late else [job for job in waiting.values() if unfinished.isdisjoint(job.needs)]
            for job in ready[: workers - len(running)]:
                running[pool.submit(job.do)] = waiting.pop(job.name)
            if not running:
                break
            for future in concurrent.futures.wait(running, return_when="FIRST_COMPLETED").done:
                job = running.pop(future)
                said = f"{(time.monotonic() - begun) / 60:6.1f} min  {job.name}"
                if future.exception():
                    failed.append(job.name)
                    said += f": {future.exception()}"
                print(f"{said}  ({len(waiting)} to go)", flush=True)
    return failed


def call_stage(
    stage: str, words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Run `STAGE/entry.sh WORDS` with this Python; what it prints is added to the file `log`.

    -> what it cost: wall and cpu seconds, peak_mib. Raises: RuntimeError where it fails.
    """
    command = ["bash", str(REPOSITORY / stage / "entry.sh"), *words]
    own = {"TOKENIZERS_PARALLELISM": "false", "DELT_PYTHON": sys.executable} | dict(environment or {})
    log.parent.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    with log.open("a", encoding="utf-8") as file:
        print("+", shlex.join(command), file=file, flush=True)
        process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | own)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{shlex.join(command[1:3])} failed: see {log}")
    cpu = usage.ru_utime + usage.ru_stime
    wall, peak = time.perf_counter() - begun, usage.ru_maxrss / 1024
    return {"wall": round(wall, 1), "cpu": round(cpu, 1), "peak_mib": round(peak)}
