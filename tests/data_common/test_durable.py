"""Files of our own are opened safely; folders are replaced in one step, or put back."""

import os
import stat
import subprocess
import sys

import pytest

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.files import durable
from data_common.files.atomic import atomic_file, clear_partials, draft_of, write_text
from data_common.files.durable import discard, exchange, lock_file, publish, recover
from data_common.messages.errors import UserError
from data_ordering.entry import STAGE as ORDERING
from data_selection.entry import STAGE as SELECTION

VICTIM = "not ours\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("".join(f'{{"score": {n}}}\n' for n in range(6)))
    (tmp_path / "victim").write_text(VICTIM)
    (tmp_path / "others").mkdir()
    (tmp_path / "others/file").write_text(VICTIM)
    return tmp_path


def plant(name, kind):
    if kind == "link":
        os.symlink("victim", name)
    elif kind == "link to a folder":
        os.symlink("others", name)
    elif kind == "second name":
        os.link("victim", name)
    elif kind == "pipe":
        os.mkfifo(name)
    else:
        os.symlink("nowhere", name)


FILES = ["link", "second name", "pipe", "link to nothing"]
PLANTED = [
    *((ORDERING, ["in.jsonl", "out.jsonl", "sorting"], ".out.jsonl.partial", kind) for kind in FILES),
    (ORDERING, ["in.jsonl", "out.jsonl", "sorting"], ".out.jsonl.manifest.json.pending", "link"),
    (ORDERING, ["in.jsonl", "out", "sorting", "rows_per_shard=2"], ".out.partial", "link to a folder"),
    (SELECTION, ["in.jsonl", "out.jsonl", "top-r", "direction=higher", "rejects=no"], ".no.partial", "link"),
]


@pytest.mark.parametrize(("stage", "words", "name", "kind"), PLANTED)
def test_what_was_planted_is_neither_followed_nor_changed(folder, capsys, stage, words, name, kind):
    plant(name, kind)
    code = main(stage, words)
    error = capsys.readouterr().err
    if ".pending" in name:  # renamed over: a rename follows nothing
        assert code == 0
    else:
        assert code == 2 and f"{name} is " in error and "remove it" in error and error.count("\n") == 1
    assert (folder / "victim").read_text() == VICTIM and (folder / "others/file").read_text() == VICTIM
    assert not (folder / "nowhere").exists()


@pytest.mark.parametrize("kind", FILES)
def test_a_planted_lock_is_not_followed(folder, kind):
    plant("lock", kind)
    with pytest.raises(UserError, match="remove it"), lock_file(folder / "lock", "busy"):
        pass
    assert (folder / "victim").read_text() == VICTIM and not (folder / "nowhere").exists()


def test_what_a_killed_run_left_is_gone_on_with(folder):
    (folder / ".out.jsonl.partial").write_text("half a li")
    assert main(ORDERING, ["in.jsonl", "out.jsonl", "sorting"]) == 0
    assert not (folder / ".out.jsonl.partial").exists()


def test_a_lock_is_waited_for_or_refused_and_leaves_nothing(folder):
    with lock_file(folder / "lock", "busy"):
        with pytest.raises(UserError, match="busy"), lock_file(folder / "lock", "busy"):
            pass
        code = "import sys; from data_common.files.durable import *; from pathlib import Path\n"
        code += "with lock_file(Path(sys.argv[1]), 'busy', wait=True): print('mine')"
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        waiting = subprocess.Popen([sys.executable, "-c", code, "lock"], env=environment, stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1)
    assert waiting.communicate()[0] == b"mine\n" and not (folder / "lock").exists()


def tree(path):
    return {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}


def make(path, **files):
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    return path


@pytest.mark.parametrize("way", ["exchanged", "two renames"])
def test_a_folder_takes_the_place_of_another(folder, monkeypatch, way):
    if way == "two renames":
        monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    publish(make(folder / "new", a="1"), make(folder / "out", b="2"))
    assert tree(folder / "out") == {"a": "1"}
    assert sorted(path.name for path in folder.iterdir()) == ["in.jsonl", "others", "out", "victim"]


def test_what_cannot_be_replaced_is_put_back(folder, monkeypatch):
    monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    real = os.rename

    def refuses(one, other):
        if str(one).endswith("new"):
            raise OSError(5, "Input/output error")
        real(one, other)

    monkeypatch.setattr(os, "rename", refuses)
    with pytest.raises(OSError, match="Input/output"):
        publish(make(folder / "new", a="1"), make(folder / "out", b="2"))
    assert tree(folder / "out") == {"b": "2"} and tree(folder / "new") == {"a": "1"}


KILLED = """
import os, sys
from data_common.files import durable
from data_common.calls.cli import main
from data_ordering.entry import STAGE

if sys.argv[1] == "two renames":
    durable.exchange = lambda one, other: False
real, left = os.rename, [int(sys.argv[2])]
def rename(one, other):
    real(one, other)
    left[0] -= 1
    if not left[0]:
        os._exit(9)
os.rename = rename
sys.exit(main(STAGE, ["corpus", "corpus", "sorting", "ascending=false", "rows_per_shard=2"]))
"""


@pytest.mark.parametrize(("way", "kill"), [("exchanged", 1), ("two renames", 1), ("two renames", 2)])
def test_a_corpus_that_is_rewritten_is_never_lost(folder, capsys, way, kill):
    """IN = OUT, a folder; killed behind each of the renames by which it is replaced."""
    assert main(ORDERING, ["in.jsonl", "corpus", "sorting", "rows_per_shard=2"]) == 0
    old = tree(folder / "corpus")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.run([sys.executable, "-c", KILLED, way, str(kill)], env=environment, capture_output=True)
    assert process.returncode == 9, process.stderr
    if (way, kill) == ("two renames", 1):
        assert not (folder / "corpus").exists() and tree(folder / ".corpus.delt-old") == old
    again = ["corpus", "corpus", "sorting", "ascending=false", "rows_per_shard=2"]
    assert main(ORDERING, again) == 0
    rows = "".join(tree(folder / "corpus")[name] for name in sorted(tree(folder / "corpus")))
    assert rows == "".join(f'{{"score": {n}}}\n' for n in reversed(range(6)))
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_an_old_folder_is_kept_while_nothing_is_in_its_place(folder, capsys):
    make(folder / ".out.old", a="1")
    recover(folder / "out")
    assert tree(folder / "out") == {"a": "1"} and "out is back" in capsys.readouterr().out
    make(folder / ".out.old", b="2")
    recover(folder / "out")
    assert tree(folder / "out") == {"a": "1"}


def test_a_file_of_the_user_with_a_name_like_ours_stays(folder):
    names = [".out.old", ".out.partial.txt", ".out.partial-keep"]
    for name in names:
        (folder / name).mkdir()
    publish(make(folder / "new", a="1"), make(folder / "out", b="2"))
    clear_partials(folder / "out")
    assert all((folder / name).is_dir() for name in names)


@pytest.mark.parametrize("mode", [0o600, 0o444, 0o664])
def test_what_is_replaced_keeps_its_permissions(folder, mode):
    (folder / "out.jsonl").write_text("")
    os.chmod(folder / "out.jsonl", mode)
    assert main(ORDERING, ["in.jsonl", "out.jsonl", "sorting"]) == 0
    assert stat.S_IMODE(os.stat("out.jsonl").st_mode) == mode


def test_links_are_followed_to_the_place_and_never_in_the_draft(folder):
    (folder / "disk").mkdir()
    os.symlink("disk/real", "link")
    make(folder / "disk/real", a="1")
    with draft_of("link", folder=True) as draft:
        (draft / "b").write_text("2")
        publish(draft, folder / "link")
    assert (folder / "link").is_symlink() and tree(folder / "disk/real") == {"b": "2"}
    discard(folder / "link")
    assert tree(folder / "disk/real") == {"b": "2"} and not (folder / "link").exists()


def test_a_link_that_leads_to_itself_is_one_line(folder, capsys):
    (folder / "loop.jsonl").symlink_to("loop.jsonl")
    for words in (["in.jsonl", "loop.jsonl"], ["loop.jsonl", "out.jsonl"]):
        assert main(SELECTION, [*words, "top-r", "direction=higher"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_exchange_is_known_here(folder):
    assert exchange(make(folder / "one", a="1"), make(folder / "two", b="2"))
    assert tree(folder / "one") == {"b": "2"}
    with pytest.raises(OSError, match="No such file"):
        exchange(folder / "one", folder / "three")


def test_files_that_a_library_made_private_follow_the_umask(folder):
    draft = make(folder / "draft", a="1", b="2")
    os.chmod(draft / "a", 0o600)
    publish(draft, folder / "out")
    usual = 0o666 & ~durable.UMASK
    assert [stat.S_IMODE(os.stat(folder / "out" / name).st_mode) for name in "ab"] == [usual, usual]
    with atomic_file("weights") as path:
        os.chmod(path, 0o600)
    write_text("text", "x")
    assert stat.S_IMODE(os.stat("weights").st_mode) == stat.S_IMODE(os.stat("text").st_mode) == usual
