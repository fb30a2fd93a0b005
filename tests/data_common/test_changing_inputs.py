"""An input that changes while it is read gives no output: not torn lines, not a crash."""

import json
import os
import subprocess
import sys

import pytest

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.rows import jsonl, write_rows
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from tests.models import byte_tokenizer

ROWS = [{"score": number, "text": f"row {number} " + "x" * 40} for number in range(50)]
CALLS = {
    "selection": (SELECTION, ["top-r", "r=0.5", "direction=higher"]),
    "rejects": (SELECTION, ["top-r", "r=0.5", "direction=higher", "rejects=rejects.jsonl"]),
    "ordering": (ORDERING, ["sorting"]),
    "shards": (ORDERING, ["sorting", "rows_per_shard=20"]),
    "scoring": (SCORING, ["combine", "fields=[score]", "lower_is_better=[]", "score_field=new"]),
}


def content(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text(content(ROWS))
    return tmp_path


def changed_in_place():
    with open("in.jsonl", "r+b") as file:
        file.seek(200)
        file.write(b"TORN")


def replaced():
    with open("new.jsonl", "w") as file:
        file.write(content(ROWS))
    os.replace("new.jsonl", "in.jsonl")


def removed():
    os.remove("in.jsonl")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("change", [changed_in_place, replaced, removed])
def test_a_change_while_it_is_read_is_an_error_and_out_is_untouched(folder, capsys, monkeypatch, call, change):
    stage, words = CALLS[call]
    out = "out" if call == "shards" else "out.jsonl"
    place = [jsonl, "raw_lines"] if call == "scoring" else [write_rows, "_spans"]
    real, changes = getattr(*place), [change]

    def meanwhile(*arguments):
        if changes:
            changes.pop()()
        return real(*arguments)

    monkeypatch.setattr(*place, meanwhile)
    assert main(stage, ["in.jsonl", out, *words]) == 2
    assert "in.jsonl was changed while it was read" in capsys.readouterr().err
    left = {path.name for path in folder.iterdir()} - {"in.jsonl", "out.jsonl.work"}
    assert left == set()


@pytest.mark.parametrize("call", CALLS)
def test_new_permissions_and_a_second_name_are_no_change(folder, monkeypatch, call):
    stage, words = CALLS[call]
    real = write_rows._spans

    def meanwhile(*arguments):
        os.chmod("in.jsonl", 0o600)
        os.link("in.jsonl", "second.jsonl") if not os.path.exists("second.jsonl") else None
        return real(*arguments)

    monkeypatch.setattr(write_rows, "_spans", meanwhile)
    assert main(stage, ["in.jsonl", "out" if call == "shards" else "out.jsonl", *words]) == 0


def test_another_input_that_changes_is_an_error_too(folder, capsys, monkeypatch):
    byte_tokenizer().save_pretrained("tokenizer")
    real = write_rows._spans

    def meanwhile(*arguments):
        (folder / "tokenizer" / "more.json").write_text("{}")
        return real(*arguments)

    monkeypatch.setattr(write_rows, "_spans", meanwhile)
    words = ["in.jsonl", "out.jsonl", "token-budget", "tokens=100", "direction=higher", "tokenizer=tokenizer"]
    assert main(SELECTION, words) == 2
    assert "error: tokenizer was changed while it was read" in capsys.readouterr().err
    assert not (folder / "out.jsonl").exists()


TRUNCATED = """
import os, sys
from data_common.rows import write_rows
from data_common.calls.cli import main
from data_ordering.entry import STAGE

real = write_rows._spans
def meanwhile(*arguments):
    os.truncate("in.jsonl", 100)
    return real(*arguments)
write_rows._spans = meanwhile
sys.exit(main(STAGE, ["in.jsonl", "out.jsonl", "sorting"]))
"""


def test_a_mapped_file_that_is_truncated_ends_in_one_line(folder):
    (folder / "in.jsonl").write_text(content(ROWS) * 200)
    process = subprocess.run(
        [sys.executable, "-c", TRUNCATED],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert process.stderr == "error: an input became shorter while it was read: run again when nothing writes to it\n"
    assert not (folder / "out.jsonl").exists()
