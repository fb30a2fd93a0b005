"""Several threads or processes do what `map` does, and nothing of them stays behind."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from data_common.messages.errors import UserError
from data_common.parallel.processes import forked_map, threaded_map

MAPS = [partial(threaded_map, threads=3), partial(forked_map, workers=3)]


@pytest.mark.parametrize("parallel_map", MAPS, ids=["threads", "processes"])
def test_order_is_kept_and_little_is_in_flight(parallel_map):
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    results = parallel_map(lambda number: (time.sleep(0.01 * (number % 3)), number)[1], items())
    assert next(results) == 0 and len(taken) <= 6
    assert list(results) == list(range(1, 40))


def test_one_process_is_this_one():
    assert list(forked_map(lambda _: os.getpid(), range(2), workers=1)) == [os.getpid()] * 2
    assert os.getpid() not in forked_map(lambda _: os.getpid(), range(2), workers=2)


def test_an_error_comes_at_its_place():
    def checked(number):
        if number in (3, 5):
            raise UserError(f"item {number}")
        return number

    results = forked_map(checked, range(9), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match="item 3"):
        next(results)


def test_a_killed_worker_is_told():
    with pytest.raises(UserError, match="a worker process was killed"):
        list(forked_map(lambda number: os.kill(os.getpid(), signal.SIGKILL), range(3), workers=2))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such signal")
def test_workers_end_with_the_process_that_started_them():
    script = (
        "import os, time; from data_common.parallel.processes import forked_map\n"
        "for pid in forked_map(lambda _: (time.sleep(0.1), os.getpid())[1], range(1000), 2): print(pid, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        workers = {int(process.stdout.readline()) for _ in range(4)}
        process.kill()
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(workers) == 2 and not any(_runs(pid) for pid in workers)


def _runs(pid):
    """Whether a process is there and no zombie that nobody has asked for yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
