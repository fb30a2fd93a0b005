"""What is written appears whole, in the right place, and by one run at a time."""

import os

import pytest

from data_common.calls.cli import main
from data_common.files.atomic import atomic_file, write_text
from data_common.messages.errors import UserError
from data_ordering.entry import STAGE as ORDERING
from data_selection.entry import STAGE as SELECTION

ROWS = "".join(f'{{"score": {n}}}\n' for n in range(6))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text(ROWS)
    return tmp_path


def test_a_link_stays_a_link(folder):
    (folder / "disk").mkdir()
    (folder / "link.jsonl").symlink_to("disk/real.jsonl")
    for text in ("one", "two"):
        write_text("link.jsonl", text)
        assert (folder / "link.jsonl").is_symlink() and (folder / "disk/real.jsonl").read_text() == text
    assert sorted(path.name for path in folder.rglob("*")) == ["disk", "in.jsonl", "link.jsonl", "real.jsonl"]


def test_a_pipe_is_not_replaced(folder, capsys):
    os.mkfifo("pipe")
    with pytest.raises(UserError, match="pipe is no regular file"):
        write_text("pipe", "text")
    assert main(SELECTION, ["in.jsonl", "pipe", "top-r", "direction=higher"]) == 2
    assert "pipe is no regular file" in capsys.readouterr().err
    assert not (folder / "pipe").is_file() and len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("words", [["out.jsonl.gz", "shuffle"], ["out", "shuffle", "rows_per_shard=2"]])
def test_of_two_runs_at_once_the_second_is_refused(folder, capsys, monkeypatch, words):
    from data_common.rows import write_rows

    spans, refused = write_rows._spans, []

    def meanwhile(*arguments):
        monkeypatch.setattr(write_rows, "_spans", spans)
        refused.append(main(ORDERING, ["in.jsonl", *words, "seed=2"]))
        return spans(*arguments)

    monkeypatch.setattr(write_rows, "_spans", meanwhile)
    assert main(ORDERING, ["in.jsonl", *words, "seed=1"]) == 0
    assert refused == [2] and f"error: another run is writing {words[0]}\n" in capsys.readouterr().err
    assert main(ORDERING, ["in.jsonl", *words, "seed=1"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_run_that_has_just_finished_is_no_obstacle(folder, monkeypatch):
    real = os.open

    def slow(path, *arguments):
        descriptor = real(path, *arguments)
        if str(path).endswith(".a.partial"):
            monkeypatch.setattr(os, "open", real)
            os.replace(path, "a")  # between opening and locking
        return descriptor

    monkeypatch.setattr(os, "open", slow)
    with atomic_file("a") as partial:
        partial.write_text("mine")
    assert (folder / "a").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["", "out.jsonl", "top-r"], "IN.jsonl is empty (an unset variable?)"),
        (["in.jsonl", "", "top-r"], "OUT.jsonl is empty (an unset variable?)"),
        ([".", "out.jsonl", "top-r"], "OUT=out.jsonl lies in ., which is read"),
        (["*.jsonl", "out.jsonl", "top-r"], "OUT=out.jsonl lies in *.jsonl, which is read"),
        (["in.jsonl", "out.jsonl", "top-r", "rejects=in.jsonl"], "rejects=in.jsonl is IN"),
    ],
)
def test_in_and_out_that_would_mix_are_refused(folder, capsys, words, message):
    assert main(SELECTION, words) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["in.jsonl"] and (folder / "in.jsonl").read_text() == ROWS
