"""Standard input that is read by nobody, and standard output that nobody reads."""

import io
import os
import subprocess
import sys

import pytest

from data_common.calls.stage import REPOSITORY
from data_common.messages.errors import UserError, exit_code
from data_common.messages.terminal import CLOSED_PIPE, say

ROWS = '{"score": 2}\n{"score": 1}\n'
SORTED = ROWS[13:] + ROWS[:13]


def shell(line, cwd, **options):
    """A line of bash; $STAGE is `bash .../data_ordering/entry.sh`. -> (exit code, stdout, stderr)."""
    environment = os.environ | {"DELT_PYTHON": sys.executable, "STAGE": f"{REPOSITORY}/data_ordering/entry.sh"}
    environment |= {"PYTHONPATH": str(REPOSITORY)}
    command = ["bash", "-c", f"set -o pipefail; {line}"]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, **options)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in.jsonl").write_text(ROWS)
    return tmp_path


def written(folder, name="out.jsonl"):
    """What the call wrote is whole, with its manifest."""
    return (folder / name).read_text() == SORTED and (folder / f"{name}.manifest.json").exists()


# --- standard input ----------------------------------------------------------------------------------------------


def test_a_loop_over_a_list_keeps_its_list(folder):
    """Whatever a library asks there: here the stage's Python itself reads it all before it begins."""
    (folder / "sitecustomize.py").write_text("import atexit, sys; atexit.register(lambda: sys.stdin.read())")
    line = 'printf "a\\nb\\n" | while read -r name; do PYTHONPATH=. bash $STAGE in.jsonl $name.jsonl sorting; done'
    code, said, error = shell(line, folder)
    assert code == 0 and not error and said.count("wrote") == 2
    assert written(folder, "a.jsonl") and written(folder, "b.jsonl")


def test_nothing_can_be_asked_of_the_user_by_a_child_either(folder):
    code = (
        "import subprocess, sys; from data_common.messages.terminal import detach_input; detach_input(sys.argv[1:]); "
    )
    code += "print(repr(sys.stdin.read()), subprocess.run(['cat'], capture_output=True).stdout)"
    assert shell(f'echo yes | "$DELT_PYTHON" -c "{code}" in.jsonl x=/dev/stdout', folder)[1] == "'' b''\n"
    assert shell(f'echo yes | "$DELT_PYTHON" -c "{code}" target_data=/dev/stdin', folder)[1] == "'yes\\n' b''\n"


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_standard_input_may_be_a_file_of_rows(name, folder):
    assert shell(f"bash $STAGE {name} out.jsonl sorting <in.jsonl", folder)[0] == 0
    assert written(folder)
    code, _, error = shell(f"cat in.jsonl | bash $STAGE {name} other.jsonl sorting", folder)
    assert code == 2 and "is a pipe" in error and error.count("\n") == 1


def test_descriptors_that_are_closed_become_no_files_of_the_stage(folder):
    assert shell("bash $STAGE in.jsonl out.jsonl sorting <&- >&- 2>&-", folder) == (0, "", "")
    assert written(folder)


# --- standard output ---------------------------------------------------------------------------------------------

PRINTS = ["bash $STAGE --help", "bash $STAGE sorting --help", "bash $STAGE in.jsonl out.jsonl sorting --dry-run"]
PRINTS += ["bash ${STAGE%/*/*}/model_eval/compare.sh --help", '"$DELT_PYTHON" -m model_eval.report --help']
PRINTS += ['"$DELT_PYTHON" -m utils --help', '"$DELT_PYTHON" -m utils --content dataset --id a --save-dir b --dry-run']


@pytest.mark.parametrize("line", PRINTS)
@pytest.mark.parametrize("unbuffered", ["", "PYTHONUNBUFFERED=1 "])
def test_text_that_nobody_takes_ends_quietly_or_with_one_line(line, unbuffered, folder):
    # the reader is gone before the first word is written
    assert shell(f"{{ sleep 0.3; {unbuffered}{line}; }} | true", folder) == (CLOSED_PIPE, "", "")
    code, _, error = shell(f"{unbuffered}{line} >/dev/full", folder)
    assert code == 2 and error == "error: cannot write standard output: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "PYTHONUNBUFFERED=1 "])
def test_a_stage_finishes_its_work_when_nobody_reads_its_prints(unbuffered, folder):
    work = f"{unbuffered}bash $STAGE in.jsonl out.jsonl sorting"
    assert shell(f"{{ sleep 0.3; {work}; }} | true", folder) == (0, "", "")
    assert written(folder)
    (folder / "out.jsonl").unlink()
    code, _, error = shell(f"{work} >/dev/full", folder)
    assert code == 0 and written(folder)
    assert error == "warning: what was printed could not be written (No space left on device); the work is done\n"
    (folder / "out.jsonl").unlink()
    assert shell(f"{work} >/dev/full 2>&1", folder) == (0, "", "") and written(folder)
    assert shell("bash $STAGE none.jsonl out.jsonl sorting 2>/dev/full", folder) == (2, "", "")
    assert shell("{ sleep 0.3; bash $STAGE none.jsonl out.jsonl sorting 2>&1; } | true", folder) == (2, "", "")


class Full(io.StringIO):
    """A stream without room."""

    def write(self, text):
        raise OSError(28, "No space left on device")


def test_what_is_printed_by_libraries_cannot_end_the_work_either(monkeypatch, capsys):
    done = []

    def work():
        for _ in range(3):
            print("a library", file=sys.stderr)
            sys.stderr.writelines(["of", "lines"])
            print("a note")
        done.append(True)

    monkeypatch.setattr(sys, "stderr", Full())
    assert exit_code(work) == 0 and done and capsys.readouterr().out == "a note\n" * 3
    monkeypatch.setattr(sys, "stdout", Full())
    assert exit_code(work) == 0 and len(done) == 2
    assert exit_code(lambda: say("help")) == 2


def test_errors_go_on_as_they_were(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", said := io.StringIO())

    def fail():
        print("a note")
        raise UserError("in.jsonl:7: broken JSON")

    assert exit_code(fail) == 2 and said.getvalue() == "error: in.jsonl:7: broken JSON\n"
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0)
