"""Progress of long work: a bar on a terminal, in a log a line a minute and nothing for what is done sooner."""

import io
import re
import subprocess
import sys

import pytest
from tqdm import std

from data_common.calls.progress import Progress
from data_common.calls.stage import REPOSITORY


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still: `clock(seconds)` moves it on."""
    now = [1000.0]
    monkeypatch.setattr(std, "time", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def lines(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    return err.split("\n")[:-1]


def test_a_line_a_minute(clock, capsys):
    with Progress(desc="annotating at step 40", total=8192, unit="sample") as bar:
        for _ in range(8):
            clock(10)
            bar.update(256)
    assert lines(capsys) == ["annotating at step 40: 1,536 of 8,192 samples (19%), 04:20 left"]
    with Progress(desc="annotating", total=600, unit="sample") as bar:
        for _ in range(600):
            clock(1)
            bar.update()
    found = lines(capsys)
    assert len(found) == 10 and found[0] == "annotating: 60 of 600 samples (10%), 09:00 left"
    assert found[-1] == "annotating: 600 of 600 samples (100%), 00:00 left"


def test_what_takes_less_than_a_minute_says_nothing(clock, capsys):
    for _ in range(5):
        for _ in Progress(range(59), "reverse", unit="step"):
            clock(1)
    assert lines(capsys) == []


def test_slow_steps_have_a_line_each(clock, capsys):
    for _ in Progress(range(3), "reverse", unit="step"):
        clock(7200)
    assert lines(capsys) == [
        "reverse: 1 of 3 steps (33%), 4:00:00 left",
        "reverse: 2 of 3 steps (67%), 2:00:00 left",
        "reverse: 3 of 3 steps (100%), 00:00 left",
    ]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"desc": "scoring", "total": 400, "unit": "token", "unit_scale": True},
            "scoring: 100 of 400 tokens (25%), 04:30 left",
        ),
        (
            {"desc": "going on", "total": 400, "initial": 200, "unit": "row"},
            "going on: 300 of 400 rows (75%), 01:30 left",
        ),
        ({"desc": "tokenizing", "unit": "text"}, "tokenizing: 100 texts after 01:30"),
        (
            {"desc": "more than was thought", "total": 50, "unit": "text"},
            "more than was thought: 100 texts after 01:30",
        ),
        ({"desc": "reading", "total": 2 * 10**9, "initial": 10**9, "unit": "B"}, "reading: 1.00GB of 2.00GB (50%)"),
        ({"total": 100}, "100 of 100 items (100%), 00:00 left"),
    ],
)
def test_what_a_line_says(options, line, clock, capsys):
    with Progress(**options) as bar:
        clock(90)
        bar.update(100)
        bar.set_postfix(loss=1.0)  # tells nothing more
        Progress.write("an entry of a log", file=io.StringIO())
    [found] = lines(capsys)
    assert found.startswith(line)


def test_a_line_of_a_log_brings_no_other(clock, capsys):
    with Progress(desc="training", total=100, unit="token") as bar:
        clock(30)
        bar.update(50)
        Progress.write("  step 1 of 2")
    assert capsys.readouterr() == ("  step 1 of 2\n", "")


def test_one_process_of_several_tells(clock, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with Progress(desc="annotating", total=2) as bar:
        clock(100)
        bar.update()
    assert list(Progress(range(3))) == [0, 1, 2] and lines(capsys) == []


def test_hidden_bars_tell_nothing(clock, capsys):
    with Progress(total=2, disable=True) as bar:
        clock(100)
        bar.update()
    assert lines(capsys) == []


def test_a_terminal_has_bars(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    for _ in Progress(range(3), "reverse", unit="step"):
        pass
    assert "\r" in terminal.getvalue() and "reverse: 100%" in terminal.getvalue()


def test_nothing_goes_around_it():
    command = ["git", "ls-files", "*.py"]
    files = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()
    used = [
        name for name in files if re.search(r"^\s*(from|import) tqdm", (REPOSITORY / name).read_text(), re.MULTILINE)
    ]
    assert [name for name in used if not name.startswith("tests/")] == ["data_common/calls/progress.py"]


def test_lm_eval_shows_its_progress_as_we_do():
    from lm_eval.api import model, task
    from lm_eval.models import huggingface

    from model_eval.lm_evaluation_harness import harness  # noqa: F401 (which sets it)

    assert model.tqdm is task.tqdm is huggingface.tqdm is Progress
