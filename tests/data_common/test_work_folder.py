"""Steps: done once, resumed when killed anywhere, made again when what they depend on changed."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from data_common.calls.stage import REPOSITORY
from data_common.files import work_folder
from data_common.files.atomic import save_array
from data_common.files.work_folder import RECORD, WorkFolder, read_record
from data_common.messages.errors import UserError, exit_code


class Run:
    """One run over two steps, `first` and `second`, that notes which of them worked, and on what files."""

    def __init__(self, path, data="abc", **keys):
        self.path, self.inputs, self.keys = path, {"data": data}, {"size": 3, "fields": ["text"]} | keys
        self.worked = {}  # step -> names of the files that its work found

    def __call__(self):
        with WorkFolder(self.path, self.inputs).locked() as work:
            first = work.step("first", self.keys, ["data"], lambda folder: self.work("first", folder))
            second = work.step("second", {"rate": 0.5}, ["first"], lambda folder: self.work("second", folder))
        return first, second

    def work(self, name, folder):
        self.worked[name] = sorted(path.name for path in folder.iterdir() if path.name != RECORD)
        for part in ("one", "two"):
            if not (folder / part).exists():
                (folder / part).write_text(self.expected(name))
        return {"made_of": self.expected(name)}

    def expected(self, name):
        return f"{name} of {self.inputs} {self.keys}"

    def check(self, results, files=True):
        for name, facts in zip(("first", "second"), results, strict=True):
            folder = self.path / name
            assert facts == {"made_of": self.expected(name)}
            assert {path.name for path in folder.iterdir()} == {"one", "two", RECORD}
            assert {(folder / part).read_text() for part in ("one", "two")} == {self.expected(name)}
            assert not files or list(read_record(folder)["files"]) == ["one", "two"]
            assert read_record(folder)["complete"] is True and read_record(folder)["facts"] == facts


def test_a_step_that_was_done_is_skipped(tmp_path, capsys):
    run = Run(tmp_path / "work")
    run.check(run())
    assert run.worked == {"first": [], "second": []}
    assert capsys.readouterr().out.count("done in") == 2
    again = Run(tmp_path / "work")
    again.check(again())
    assert again.worked == {}
    out = capsys.readouterr().out
    assert f"first: up to date ({tmp_path / 'work/first'})" in out and "second: up to date" in out


def test_facts_are_the_same_when_done_and_when_skipped(tmp_path):
    with WorkFolder(tmp_path, {}).locked() as work:
        done = work.step("one", {"sizes": (1, 2)}, [], lambda folder: {"shape": (1, 2), "é": None, "mean": 0.1})
        skipped = work.step("one", {"sizes": (1, 2)}, [], pytest.fail)
    assert done == skipped == {"shape": [1, 2], "é": None, "mean": 0.1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 4}, "first: made again, size was 3, is 4"),
        ({"size": None}, "first: made again, size was 3, is None"),
        ({"fields": ["title", "text"]}, "first: made again, fields was ['text'], is ['title', 'text']"),
        ({"size": 4, "fields": []}, "first: made again, size was 3, is 4; fields was ['text'], is []"),
        ({"new": 2}, "first: made again, new was None, is 2"),
        ({"data": "abd"}, "first: made again, since data changed"),
    ],
)
def test_a_change_repeats_the_step_and_all_that_follow(changed, message, tmp_path, capsys):
    Run(tmp_path)()
    capsys.readouterr()
    run = Run(tmp_path, **changed)
    run.check(run())
    assert run.worked == {"first": [], "second": []}  # what the old steps wrote is gone
    out = capsys.readouterr().out
    assert message in out and "second: made again, since first changed" in out


def test_a_step_cannot_come_after_what_is_not_there(tmp_path):
    with WorkFolder(tmp_path, {"data": 1}).locked() as work, pytest.raises(AssertionError, match=r"\['data'\]"):
        work.step("fit", {}, ["texts"], lambda folder: {})


def test_a_key_that_is_gone_is_named(tmp_path, capsys):
    Run(tmp_path, old_name=1)()
    capsys.readouterr()
    run = Run(tmp_path)
    run.check(run())
    assert "first: made again, old_name" in capsys.readouterr().out


def test_only_the_steps_after_a_change_are_repeated(tmp_path):
    calls = []

    def steps(rate):
        with WorkFolder(tmp_path, {"data": 1}).locked() as work:
            work.step("first", {}, ["data"], lambda folder: calls.append("first") or {})
            work.step("beside", {}, ["data"], lambda folder: calls.append("beside") or {})
            work.step("second", {"rate": rate}, ["first"], lambda folder: calls.append("second") or {})
            work.step("third", {}, ["beside", "second"], lambda folder: calls.append("third") or {})

    steps(0.5)
    steps(0.25)
    assert calls == ["first", "beside", "second", "third", "second", "third"]


@pytest.mark.parametrize(
    ("size", "found", "message"),
    [(3, ["one"], "first: going on with what an interrupted run left"), (4, [], "first: made again, size was 3, is 4")],
    ids=["same", "another"],
)
def test_what_a_killed_work_left_is_used_under_the_same_identity_only(size, found, message, tmp_path, capsys):
    run = Run(tmp_path, size=3)

    def killed(name, folder):
        (folder / "one").write_text(run.expected(name))
        raise KeyboardInterrupt

    run.work = killed
    with pytest.raises(KeyboardInterrupt):
        run()
    assert read_record(tmp_path / "first")["complete"] is False
    again = Run(tmp_path, size=size)
    again.check(again())
    assert again.worked == {"first": found, "second": []}
    assert message in capsys.readouterr().out


@pytest.mark.parametrize("name", ["mine.txt", "folder/mine.txt", ".hidden"])
def test_foreign_files_are_an_error_and_stay(name, tmp_path):
    file = tmp_path / "first" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    run = Run(tmp_path)
    with pytest.raises(UserError, match=r"first holds files that no run made: choose another work_dir"):
        run()
    assert file.read_text() == "mine" and run.worked == {}


def test_a_pipe_in_place_of_a_record_is_a_foreign_file_and_not_waited_for(tmp_path):
    (tmp_path / "first").mkdir()
    os.mkfifo(tmp_path / "first" / RECORD)
    with pytest.raises(UserError, match=r"first holds files that no run made: choose another work_dir"):
        Run(tmp_path)()


def test_files_beside_the_steps_stay_and_an_empty_folder_is_used(tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "report.html").write_text("mine")
    for size in (3, 4):
        run = Run(tmp_path, size=size)
        run.check(run())
    assert (tmp_path / "report.html").read_text() == "mine"


DAMAGE = [
    b"",
    b'{"identity": ',
    b"\xff\xfe",
    bytes(300),
    b'{"identity": 5}',
    b'{"identity": {"keys": 1}}',
    b"[" * 10**5,
]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_record_is_written_again_and_nothing_beside_it_is_deleted(content, tmp_path, capsys):
    Run(tmp_path)()
    (tmp_path / "first" / RECORD).write_bytes(content)
    for number in (1, 2):
        run = Run(tmp_path)
        run.check(run())
        assert "first: made again, its step.json is damaged" in capsys.readouterr().out
        aside = tmp_path / f"first.damaged-{number}"
        assert (aside / RECORD).read_bytes() == content and (aside / "one").exists()
        (tmp_path / "first" / RECORD).write_bytes(content)


def cut(file):
    os.truncate(file, 3)


def zeroed(file):
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("damage", [cut, zeroed, os.remove])
def test_a_file_of_a_complete_step_that_is_damaged_is_made_again(damage, tmp_path, capsys):
    Run(tmp_path)()
    damage(tmp_path / "first/two")
    run = Run(tmp_path)
    run.check(run())
    assert run.worked == {"first": ["one"]}
    out = capsys.readouterr().out
    assert "first: two is damaged or missing: it is made again" in out and "second: up to date" in out


def test_an_array_that_a_killed_work_left_short_is_made_again(tmp_path, capsys):
    def work(folder):
        for name in ("a.npy", "b.npy"):
            if not (folder / name).exists():
                save_array(folder / name, np.arange(99))
        return {}

    def killed(folder):
        work(folder)
        os.truncate(folder / "b.npy", 200)
        raise KeyboardInterrupt

    for doing in (killed, work):
        with suppress(KeyboardInterrupt), WorkFolder(tmp_path, {}).locked() as folder:
            folder.step("one", {}, [], doing)
    assert "one: b.npy is damaged or missing" in capsys.readouterr().out
    assert (np.load(tmp_path / "one/b.npy") == np.arange(99)).all()


def test_a_record_without_its_files_is_one_of_an_older_version(tmp_path):
    Run(tmp_path)()
    path = tmp_path / "first" / RECORD
    record = json.loads(path.read_text())
    del record["files"]
    path.write_text(json.dumps(record))
    run = Run(tmp_path)
    run.check(run(), files=False)
    assert run.worked == {}


class Call:
    """What a work folder asks of the call: versions of its method, and how older records knew its inputs."""

    changed = False

    def __init__(self, versions=None, once=()):
        self.versions, self.once = {"m": versions} if versions else {}, once
        self.identity = {"method_versions": {"m": max(versions)} if versions else {}}

    def check_inputs(self):
        if self.changed:
            raise UserError("model was changed while it was read")

    def contents_once(self):
        return self.once


def test_steps_are_repeated_when_the_version_of_the_method_is_raised(tmp_path, capsys):
    calls = []
    for call in (None, Call(), Call({2: "the sum was wrong"}), Call({2: "the sum was wrong"})):
        with WorkFolder(tmp_path, {}, call).locked() as work:
            work.step("one", {}, [], lambda folder: calls.append(1) or {})
    assert len(calls) == 2
    assert "one: made again, results of m changed in version 2: the sum was wrong" in capsys.readouterr().out


def test_steps_of_an_older_version_are_known_by_its_fingerprints(tmp_path):
    """A large file was known by samples; steps behind such a step are known as well, and new ones are new."""
    calls = []

    def steps(inputs, call, *names):
        with WorkFolder(tmp_path, inputs, call).locked() as work:
            for name, after in zip(names, ["data", *names], strict=False):
                work.step(name, {}, [after], lambda folder, name=name: calls.append(name) or {})

    steps({"data": "samples"}, None, "one", "two")
    steps({"data": "whole"}, Call(once=[{"data": "samples"}]), "one", "two", "three")
    assert calls == ["one", "two", "three"]
    steps({"data": "whole"}, Call(once=[{"data": "samples"}]), "one", "two", "three")
    assert calls == ["one", "two", "three"]
    steps({"data": "other"}, Call(once=[{"data": "other samples"}]), "one", "two", "three")
    assert calls == ["one", "two", "three"] * 2


def test_what_was_made_of_an_input_that_changed_is_removed(tmp_path):
    def changed():
        raise UserError("in.jsonl was changed while it was read")

    with WorkFolder(tmp_path, {}, None, changed).locked() as work, pytest.raises(UserError, match="was changed"):
        work.step("one", {}, [], lambda folder: (folder / "tokens").write_text("torn") and {})
    assert not (tmp_path / "one").exists()


def test_what_was_made_of_a_model_that_changed_is_removed(tmp_path):
    call = Call()
    call.changed = True
    with WorkFolder(tmp_path, {}, call).locked() as work, pytest.raises(UserError, match="was changed"):
        work.step("score", {}, [], lambda folder: (folder / "part").write_text("of the other model") and {})
    assert not (tmp_path / "score").exists()


def test_a_step_may_have_the_name_of_an_input(tmp_path):
    calls = []
    for content in ("one", "one", "two"):
        with WorkFolder(tmp_path, {"data": content}).locked() as work:
            work.step("data", {}, ["data"], lambda folder: calls.append("data") or {})
            work.step("after", {}, ["data"], lambda folder: calls.append("after") or {})
    assert calls == ["data", "after"] * 2


def test_a_folder_of_the_user_is_no_trash(tmp_path):
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash/file").write_text("mine")
    Run(tmp_path)()
    Run(tmp_path, size=4)()
    assert (tmp_path / ".trash/file").read_text() == "mine"


def test_trash_of_a_killed_run_is_removed(tmp_path):
    Run(tmp_path)()
    record = tmp_path / "first" / RECORD
    record.write_text(json.dumps(json.loads(record.read_text()) | {"complete": False}))
    for folder in (tmp_path, tmp_path / "first"):
        (folder / ".delt-trash/states").mkdir(parents=True)
    run = Run(tmp_path)
    run.check(run())
    assert not list(tmp_path.rglob(".delt-trash"))


def test_a_planted_lock_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "work").mkdir()
    (tmp_path / "work/.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="is a symbolic link"):
        Run(tmp_path / "work")()
    assert (tmp_path / "victim").read_text() == "mine"


@pytest.mark.parametrize("content", ["null", "[1]", '"text"', '{"step": 7}', '{"complete": true}', "{}"])
def test_a_record_that_is_not_ours_is_a_foreign_file(content, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / RECORD).write_text(content)
    with pytest.raises(UserError, match=r"first holds files that no run made"):
        Run(tmp_path)()
    assert (tmp_path / "first" / RECORD).read_text() == content


def killed_at(number, work):
    """Do `work` in a child that ends, as by SIGKILL, at the file operation of this number. -> whether it got there."""
    child = os.fork()
    if child == 0:
        count = 0

        def note(event, details):
            nonlocal count
            writes = event == "open" and details[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
                count += 1
                if count > number:
                    os._exit(9)

        with suppress(BaseException):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.addaudithook(note)
            work()
            os._exit(0)
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("before", ["nothing", "complete", "killed"])
def test_a_run_killed_anywhere_is_no_dead_end(before, tmp_path):
    for number in range(200):
        path = tmp_path / str(number)
        if before == "complete":
            Run(path, size=1)()
        if before == "killed":
            killed_at(9, Run(path, size=1))
        there = killed_at(number, Run(path, size=2))
        run = Run(path, size=2)
        try:
            run.check(run())
        except UserError as error:
            raise AssertionError(f"killed at file operation {number}") from error
        if not there:
            break
    assert not there and number > 8  # every operation was one to be killed at


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_a_removal_that_stops_half_way_is_no_dead_end(removed, tmp_path, monkeypatch):
    Run(tmp_path, size=3)()
    remove_all = work_folder.shutil.rmtree

    def stopped(folder, ignore_errors=False):
        for file in sorted(Path(folder).glob("*"))[:removed]:
            file.unlink()
        if not ignore_errors:
            raise KeyboardInterrupt
        remove_all(folder, ignore_errors)

    with monkeypatch.context() as patch:
        patch.setattr(work_folder.shutil, "rmtree", stopped)
        with pytest.raises(KeyboardInterrupt):
            Run(tmp_path, size=4)()
    for size in (4, 5):
        run = Run(tmp_path, size=size)
        run.check(run())
        assert run.worked == {"first": [], "second": []}
    assert not (tmp_path / ".delt-trash").exists()


HOLD = """
import sys
from pathlib import Path
from data_common.files.work_folder import WorkFolder
with WorkFolder(Path(sys.argv[1]), {}).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out_until_it_ends(tmp_path, capsys):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "work")]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        run = Run(tmp_path / "work")
        assert exit_code(run) == 2
        assert capsys.readouterr().err == f"error: another run is using work_dir {tmp_path / 'work'}\n"
        assert run.worked == {}
        holder.kill()
        holder.wait()
        run.check(run())


@pytest.mark.parametrize(("path", "reason"), [("file", "File exists"), ("file/work", "Not a directory")])
def test_a_work_dir_that_is_a_file(path, reason, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=rf"work_dir .*{path} cannot be used: {reason}$"):
        Run(tmp_path / path)()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_step_folder_that_is_a_file(tmp_path):
    (tmp_path / "first").write_text("mine")
    with pytest.raises(UserError, match=r"Not a directory|holds files"):
        Run(tmp_path)()
    assert (tmp_path / "first").read_text() == "mine"


@pytest.mark.parametrize("number", [13, 30, 28], ids=["EACCES", "EROFS", "ENOSPC"])
def test_a_work_dir_that_cannot_be_made(number, tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=f"work_dir .* cannot be used: {os.strerror(number)}"):
        Run(tmp_path / "work")()


@pytest.mark.parametrize("error", [PermissionError, FileExistsError, NotADirectoryError, BlockingIOError])
def test_errors_of_the_work_are_not_said_of_the_folder(error, tmp_path):
    with pytest.raises(error, match="elsewhere"), WorkFolder(tmp_path, {}).locked():
        raise error(13, "no", "/elsewhere")
