"""Several processes for one call: who they are, what they add up, what the user hears of them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from data_common.calls import cli
from data_common.calls.cli import main
from data_common.calls.launch import launch, wanted
from data_common.calls.stage import REPOSITORY
from data_common.messages.errors import UserError
from data_common.parallel import distributed
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING

CALLER = """
import sys
from data_common.messages.errors import exit_code
from data_common.calls.launch import launch
sys.exit(exit_code(lambda: launch("worker", sys.argv[1:])))
"""

WORKER = """
import json, os, sys, time
from data_common.parallel import distributed
from data_common.messages.errors import UserError, exit_code

def share():
    import numpy as np
    import torch
    rank = distributed.rank()
    array, tensor = np.array([[1.0, 10.0 * rank]]), torch.tensor([1, rank + 3])
    distributed.add_up([array, tensor])
    started = time.monotonic()
    time.sleep(rank)  # the second process is late
    distributed.wait()
    waited = time.monotonic() - started
    facts = {"rank": rank, "local_rank": distributed.local_rank()}
    facts |= {"size": distributed.size(), "is_main": distributed.is_main()}
    facts |= {"array": array.tolist(), "tensor": tensor.tolist(), "waited": waited > 0.9, "words": sys.argv[1:]}
    with open(f"facts-{rank}.json", "w") as file:
        json.dump(facts, file)
    print("told by", rank)
    print("warned by", rank, file=sys.stderr)

def fail(who):
    if distributed.rank() in who:
        raise UserError("in.jsonl:7: broken JSON")

def both_fail():
    fail([0, 1])

both_fail_first_lingers = both_fail

def second_fails_first_works():
    fail([1])
    time.sleep(60)

def second_fails_first_waits():
    distributed.wait()
    fail([1])
    distributed.wait()

code = exit_code(globals()[sys.argv[1]])
if sys.argv[1].endswith("lingers") and distributed.rank() == 0:
    time.sleep(60)  # it is ended before it can exit
sys.exit(code)
"""
CASES = ("share", "both_fail", "both_fail_first_lingers", "second_fails_first_works", "second_fails_first_waits")
WORDS = ["in put.jsonl", "key=[1, 2]", "--help"]  # passed on as they are
ERROR = "error: in.jsonl:7: broken JSON\n"


@pytest.fixture(autouse=True)
def single(monkeypatch):
    for name in ("NPROC", "NNODES", "NODE_RANK", "RDZV_ENDPOINT", "RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """Every case in two processes, all cases at once. -> (folder, case -> (exit code, stdout, stderr))."""
    folder = tmp_path_factory.mktemp("launch")
    (folder / "worker.py").write_text(WORKER)
    environment = os.environ | {"PYTHONPATH": f"{folder}:{REPOSITORY}", "NPROC": "2"}
    running = {}
    for case in CASES:
        command = [sys.executable, "-c", CALLER, case, *WORDS]
        running[case] = subprocess.Popen(command, cwd=folder, env=environment, stdout=-1, stderr=-1, text=True)
    said = {case: process.communicate(timeout=120) for case, process in running.items()}
    return folder, {case: (running[case].returncode, *said[case]) for case in CASES}


def test_two_processes_share_the_work(calls):
    folder, results = calls
    assert results["share"] == (0, "told by 0\n", "warned by 0\n")  # of the second process nothing
    facts = [json.loads((folder / f"facts-{rank}.json").read_text()) for rank in (0, 1)]
    for rank, of_rank in enumerate(facts):
        assert of_rank["rank"] == of_rank["local_rank"] == rank and of_rank["is_main"] == (rank == 0)
        assert of_rank["size"] == 2 and of_rank["waited"]
        assert of_rank["array"] == [[2.0, 10.0]] and of_rank["tensor"] == [2, 7]
        assert of_rank["words"] == ["share", *WORDS]


@pytest.mark.parametrize("case", ["both_fail", "both_fail_first_lingers"])
def test_the_same_error_of_both_is_said_once(calls, case):
    assert calls[1][case] == (2, "", ERROR)


def test_an_error_of_the_second_process_is_said_for_it(calls):
    assert calls[1]["second_fails_first_works"] == (2, "", ERROR)


def test_an_error_of_the_second_process_is_all_that_is_said(calls):
    assert calls[1]["second_fails_first_waits"] == (2, "", ERROR)


def test_one_process_is_a_world_of_its_own():
    array = np.arange(3)
    distributed.add_up([array])
    distributed.wait()
    assert array.tolist() == [0, 1, 2]
    assert (distributed.rank(), distributed.local_rank(), distributed.size(), distributed.is_main()) == (0, 0, 1, True)


@pytest.mark.parametrize(
    ("environment", "result"),
    [
        ({}, False),
        ({"NPROC": "1"}, False),
        ({"NPROC": "1", "NNODES": "1"}, False),
        ({"NPROC": "2"}, True),
        ({"NPROC": "12"}, True),
        ({"NNODES": "2"}, True),
        ({"NPROC": "2", "RANK": "0"}, False),  # one of the processes that were started
        ({"NNODES": "2", "RANK": "1"}, False),
    ],
)
def test_what_asks_for_more_processes(environment, result, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wanted() is result


@pytest.mark.parametrize("name", ["NPROC", "NNODES"])
@pytest.mark.parametrize("value", ["two", "0", "-1", "2.0", "", " ", "²"])
def test_no_number_of_processes(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=rf"{name}={value}.*expected numbers of at least 1"):
        wanted()


def run_stage(stage, words, monkeypatch, **environment):
    """-> (exit code, calls of `launch`)."""
    launched = []
    monkeypatch.setattr(cli, "launch", lambda *call: launched.append(call))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return main(stage, words), launched


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"NPROC": "2"}, "error: sorting runs in one process: unset NPROC\n"),
        ({"NPROC": "many"}, "error: NPROC=many, NNODES=1: expected numbers of at least 1\n"),
    ],
)
def test_a_stage_refuses_with_one_line(environment, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "in.jsonl").write_text('{"score": 1}\n')
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "sorting"]
    assert run_stage(ORDERING, words, monkeypatch, **environment) == (2, [])
    assert capsys.readouterr() == ("", message)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_method_that_shares_work_is_launched_with_the_words_of_the_call(monkeypatch):
    words = ["in.jsonl", "out.jsonl", "lqs", "text_field=body text"]
    assert run_stage(SCORING, words, monkeypatch, NPROC="2") == (0, [("data_scoring.entry", words)])


@pytest.mark.parametrize("flag", ["--dry-run=keys", "--help"])
def test_looking_needs_no_processes(flag, monkeypatch, capsys):
    words = ["in.jsonl", "out.jsonl", "lqs", flag]
    assert run_stage(SCORING, words, monkeypatch, NPROC="2") == (0, [])
    assert "lqs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "missing"),
    [({"NODE_RANK": "0"}, "RDZV_ENDPOINT"), ({"RDZV_ENDPOINT": "first:29500"}, "NODE_RANK")],
)
def test_more_machines_need_to_know_where_they_meet(given, missing, monkeypatch):
    for name, value in (given | {"NNODES": "2"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"^more than one machine: {missing} is not set$"):
        launch("worker", [])
