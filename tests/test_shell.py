"""The scripts under shells, folders and environments that are not the author's."""

import os
import shutil
import subprocess
import sys

import pytest

from data_common.calls.stage import REPOSITORY

STAGES = ["data_scoring", "data_selection", "data_ordering", "model_train", "model_eval"]
SCRIPTS = [*(f"{stage}/entry.sh" for stage in STAGES), "data_scoring/compare.sh", "model_eval/compare.sh"]
WORDLESS = ["pipeline.sh", *(f"docs/recipes/{name}.sh" for name in ("rank-sum", "kenlm-sorting", "last-half"))]
PARTS = [*STAGES, "data_common", "docs", "utils.py", "pipeline.sh", "requirements.txt"]


def call(*words, cwd, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CDPATH", "BASH_ENV")}
    environment = {"DELT_PYTHON": sys.executable} | environment
    return subprocess.run(list(map(str, words)), cwd=cwd, env=kept | environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A copy of the repository in a folder whose name nobody should choose."""
    root = tmp_path_factory.mktemp("a") / "co:lon and $pace's"
    for part in PARTS:
        copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy
        root.mkdir(exist_ok=True)
        copy(REPOSITORY / part, root / part)
    return root


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_in_a_folder_with_a_colon_under_cdpath(script, odd):
    done = call("bash", script, "--help", cwd=odd, CDPATH=".:/tmp")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: bash {script} ") and not done.stderr


def test_every_script_under_cdpath_and_by_sh(odd):
    for shell in ("bash", "sh"):
        done = call(shell, "pipeline.sh", cwd=odd, CDPATH=".:/tmp", DRY_RUN="1")
        assert done.returncode == 0 and not done.stderr and f"{odd}/" in done.stdout, done.stderr
    done = call("bash", "docs/recipes/delt-160m.sh", "--dry-run", cwd=odd, CDPATH=".:/tmp")
    assert done.stdout.startswith("# dataset togethercomputer"), done.stderr


@pytest.mark.parametrize("script", WORDLESS)
def test_a_word_does_not_begin_hours_of_work(script, odd, tmp_path):
    done = call("bash", odd / script, "--help", cwd=tmp_path)
    assert done.returncode == 0 and f"bash {script}" in done.stdout and not done.stderr
    done = call("sh", odd / script, "my.jsonl", cwd=tmp_path)
    assert done.returncode == 2 and "takes no words, and this is one: my.jsonl" in done.stderr and not done.stdout
    assert not list(tmp_path.iterdir())


def test_stages_work_in_such_a_folder_by_a_link_and_in_child_processes(odd, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"score": 2, "text": "a"}\n{"score": 1, "text": "b"}\n')
    (tmp_path / "utils.py").write_text("raise SystemExit('the wrong utils.py')")
    (tmp_path / "order").symlink_to(odd / "data_ordering/entry.sh")
    assert call("bash", tmp_path / "order", "in.jsonl", "out.jsonl", "sorting", cwd=tmp_path).returncode == 0
    assert (tmp_path / "out.jsonl").read_text().startswith('{"score": 1')
    show = "import data_common.calls.stage; print(data_common.calls.stage.REPOSITORY, flush=True)"
    twice = f"import subprocess, sys\n{show}\nsys.exit(subprocess.call([sys.executable, '-c', {show!r}]))"
    script = 'source "$1/data_common/python.sh"\nexec "$DELT_PYTHON" -c "$2"\n'
    (tmp_path / "script.sh").write_text(script)
    done = call("bash", "script.sh", odd, twice, cwd=tmp_path)
    assert done.stdout == f"{odd}\n" * 2, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["sh", "entry.sh"],
        ["bash", "--posix", "entry.sh"],
        ["env", "-u", "HOME", "bash", "entry.sh"],
        ["env", "BASH_ENV=noise", "bash", "entry.sh"],
        ["env", "PYTHONPATH=nowhere", "bash", "entry.sh"],
        ["bash", "-c", 'cd() { builtin cd "$@"; ls; }; export -f cd; bash entry.sh "$@"', "-"],
    ],
    ids=" ".join,
)
def test_other_shells_and_environments(words, odd):
    (odd / "data_selection/noise").write_text('cd() { builtin cd "$@"; ls; }\n')
    done = call(*words, "top-r", "--help", cwd=odd / "data_selection", CDPATH=".")
    assert done.returncode == 0 and done.stdout.startswith("usage: ") and not done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_begins_alike(script):
    lines = (REPOSITORY / script).read_text().split("\n")
    assert lines[0] == "#!/usr/bin/env bash" and lines[1].startswith(f"# bash {script} ")
    assert (
        lines[2:]
        == (REPOSITORY / "data_scoring/entry.sh")
        .read_text()
        .replace("data_scoring", script.split("/")[0] + (".compare" if script.endswith("compare.sh") else ""))
        .split("\n")[2:]
    )


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("/nowhere/python", "error: DELT_PYTHON=/nowhere/python is no program: unset it"),
        ("{folder}", "error: DELT_PYTHON={folder} is no program"),
        ("{folder}/old", "error: DELT_PYTHON={folder}/old lacks Python 3.11 (it is 3.9): {folder}/old -m pip install"),
        ("{folder}/bare", "error: DELT_PYTHON={folder}/bare lacks msgspec, numpy: {folder}/bare -m pip install -r "),
    ],
)
@pytest.mark.parametrize("script", ["data_selection/entry.sh", "model_eval/compare.sh"])
def test_a_python_that_cannot_run_a_stage_is_named_with_the_cure(script, python, message, tmp_path):
    for name, said in (("old", "Python 3.11 (it is 3.9)"), ("bare", "msgspec, numpy")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / name).chmod(0o755)
    python, message = python.format(folder=tmp_path), message.format(folder=tmp_path)
    done = call("bash", REPOSITORY / script, "--help", cwd=tmp_path, DELT_PYTHON=python)
    assert done.returncode == 2 and done.stderr.startswith(message) and done.stderr.count("\n") == 1
