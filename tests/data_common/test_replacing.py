"""What OUT may replace: earlier outputs of these stages and IN itself; all else only where the call says so."""

import json
import os
from pathlib import Path

import pytest

from data_common.calls.cli import main
from data_common.files.atomic import manifest_path, pending_path
from data_common.files.manifest import Run, read_manifest
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from tests.records import declare

ROWS = [{"score": n * 7 % 10, "text": f"row {n} of some words"} for n in range(10)]
STAGES = {"select": SELECTION, "order": ORDERING, "score": SCORING}
KEYS = {
    "select": ["top-r", "r=0.5", "direction=higher"],
    "order": ["sorting"],
    "score": ["combine", "fields=[score]", "lower_is_better=[]", "score_field=new", "overwrite=true"],
}
SHARDS = "rows_per_shard=2"
KENLM = ["kenlm", "order=2", "vocab_size=24", "score_field=new", "overwrite=true"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("in.jsonl")
    return tmp_path


def write(path, rows=ROWS):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def call(line, *words):
    """The exit code of e.g. "select in.jsonl out.jsonl KEYS", with the usual method unless `words` name another."""
    stage, source, target, *keys = line.split()
    return main(STAGES[stage], [source, target, *(words or KEYS[stage]), *keys])


def done(*lines):
    for line in lines:
        assert call(line) == 0


def on_disk(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(folder, capsys, line, message, *words):
    """Refused with one line and nothing changed, and let through by overwrite_out=true."""
    before = on_disk(folder)
    for flags in ("", " --dry-run"):
        capsys.readouterr()
        assert call(line + flags, *words) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
        assert error.endswith("overwrite_out=true replaces it\n")
        assert on_disk(folder) == before
    assert call(f"{line} overwrite_out=true", *words) == 0
    capsys.readouterr()
    return call(line, *words)


MADE_FROM = {  # calls before -> the swapped call, what it says
    "a rerun with swapped arguments": (
        ["select in.jsonl top.jsonl"],
        "select top.jsonl in.jsonl",
        "OUT=in.jsonl is what top.jsonl was made from (IN and OUT swapped?)",
    ),
    "scoring": (
        ["score in.jsonl scored.jsonl"],
        "score scored.jsonl in.jsonl",
        "OUT=in.jsonl is what scored.jsonl was made from",
    ),
    "two stages later, where OUT has a manifest": (
        ["select in.jsonl s.jsonl", "order s.jsonl o.jsonl"],
        "select o.jsonl s.jsonl",
        "OUT=s.jsonl is what o.jsonl was made from",
    ),
    "further back": (
        ["score in.jsonl s.jsonl", "order s.jsonl o.jsonl", "select o.jsonl p.jsonl", "order p.jsonl q.jsonl"],
        "select q.jsonl s.jsonl",
        "o.jsonl was made from",
    ),
    "a folder of shards": (
        [f"select in.jsonl s {SHARDS}", "order s o.jsonl"],
        f"select o.jsonl s {SHARDS}",
        "OUT=s is what o.jsonl was made from",
    ),
    "one of the shards": (
        [f"select in.jsonl s {SHARDS}", "order s o.jsonl"],
        "select o.jsonl s/part-00001.jsonl",
        "OUT=s/part-00001.jsonl is what o.jsonl was made from",
    ),
    "from shard to shard": (
        [f"select in.jsonl s {SHARDS}", f"order s o {SHARDS}"],
        f"select o s {SHARDS}",
        "OUT=s is what o was made from",
    ),
    "shards by a glob": (
        [f"select in.jsonl s {SHARDS}", f"order s o {SHARDS}"],
        f"select o/*.jsonl s {SHARDS}",
        "OUT=s is what o was made from",
    ),
    "the rest": (
        ["select in.jsonl s.jsonl rejects=no.jsonl", "order no.jsonl o.jsonl"],
        "select o.jsonl no.jsonl",
        "OUT=no.jsonl is what o.jsonl was made from",
    ),
    "as the rest": (
        ["select in.jsonl s.jsonl", "order s.jsonl o.jsonl"],
        "select o.jsonl new.jsonl rejects=s.jsonl",
        "rejects=s.jsonl is what o.jsonl was made from (IN and rejects swapped?)",
    ),
    "made in its place": (
        ["select in.jsonl s.jsonl", "order s.jsonl s.jsonl", "order s.jsonl o.jsonl ascending=false"],
        "select o.jsonl s.jsonl",
        "OUT=s.jsonl is what o.jsonl was made from",
    ),
}


@pytest.mark.parametrize("case", MADE_FROM)
def test_what_in_was_made_from_is_not_replaced(folder, capsys, case):
    before, line, message = MADE_FROM[case]
    done(*before)
    refused(folder, capsys, line, message)


def test_nor_by_another_name_or_from_another_folder(folder, capsys, monkeypatch):
    write("data/in.jsonl")
    done("score data/in.jsonl data/s.jsonl", "order data/s.jsonl data/o.jsonl", "select data/o.jsonl data/p.jsonl")
    os.symlink("data/s.jsonl", "link.jsonl")
    assert call("select data/p.jsonl link.jsonl") == 2
    assert f"OUT=link.jsonl is what {folder}/data/o.jsonl was made from" in capsys.readouterr().err
    monkeypatch.chdir("data")
    assert call("select p.jsonl s.jsonl") == 2
    assert f"OUT=s.jsonl is what {folder}/data/o.jsonl was made from" in capsys.readouterr().err
    monkeypatch.chdir("..")
    os.rename("data", "moved")
    refused(folder, capsys, "select moved/p.jsonl moved/s.jsonl", f"is what {folder}/moved/o.jsonl was made from")


@pytest.mark.parametrize("source", ["in.jsonl", "FOLDER/in.jsonl"])
@pytest.mark.parametrize("target", ["sub/out.jsonl", "FOLDER/sub/out.jsonl"])
def test_nor_by_paths_from_the_root(folder, capsys, source, target):
    line = f"select {source} {target}".replace("FOLDER", str(folder))
    done(line)
    for swapped in ("select sub/out.jsonl in.jsonl", f"select {folder}/sub/out.jsonl {folder}/in.jsonl"):
        assert call(swapped) == 2
        assert "(IN and OUT swapped?)" in capsys.readouterr().err


def test_nor_where_a_run_was_killed_before_its_manifest(folder, monkeypatch, capsys):
    done("select in.jsonl s.jsonl")
    killed_before_its_manifest(monkeypatch, "order s.jsonl o.jsonl")
    refused(folder, capsys, "select o.jsonl s.jsonl", "OUT=s.jsonl is what o.jsonl was made from")


FOREIGN = {  # a file -> what is said of it
    "notes.txt": "there is no manifest of it",
    "edited.jsonl": "it was changed since it was made",
    "downloaded.jsonl": "it was made by utils",
    "result.yaml": "it was made by model_eval",
}


@pytest.fixture
def foreign(folder):
    write("notes.txt")
    for name, stage in {
        "edited.jsonl": "data_scoring",
        "downloaded.jsonl": "utils",
        "result.yaml": "model_eval",
    }.items():
        write(name)
        declare(folder / name, stage=stage)
    write("edited.jsonl", ROWS[1:])
    return folder


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", FOREIGN)
def test_what_no_stage_made_is_not_replaced(foreign, capsys, stage, name):
    message = f"OUT={name} exists, and {FOREIGN[name]}: choose another, or overwrite_out=true replaces it"
    assert refused(foreign, capsys, f"{stage} in.jsonl {name}", message) == 0
    assert "up to date" in capsys.readouterr().out


def test_nor_as_the_rest_or_as_a_folder(foreign, capsys):
    line = "select in.jsonl out.jsonl rejects=notes.txt"
    assert refused(foreign, capsys, line, "rejects=notes.txt exists, and there is no manifest of it") == 0
    assert "up to date" in capsys.readouterr().out
    write("parts/part-00000.jsonl")
    line = f"order in.jsonl parts {SHARDS}"
    assert refused(foreign, capsys, line, "OUT=parts exists, and there is no manifest of it") == 0


INPUTS = {  # OUT, the keys -> what else is read
    "a file": ("good.jsonl", "train_data=good.jsonl"),
    "one of a glob": ("goods/a.jsonl", "train_data=goods/*.jsonl"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_what_is_read_beside_in_is_not_replaced(folder, capsys, case):
    target, key = INPUTS[case]
    write(target)
    declare(folder / target)
    refused(folder, capsys, f"score in.jsonl {target} {key}", f"OUT={target} is an input of this call", *KENLM)


def test_a_folder_is_not_replaced_by_rows_of_one_of_its_shards(folder, capsys):
    done(f"order in.jsonl s {SHARDS}")
    refused(folder, capsys, f"select s/part-00001.jsonl s {SHARDS}", "OUT=s is an input of this call")


def test_data_that_an_input_beside_in_was_made_from_may_be_made_again(folder):
    """As where the annotator of the next round was trained on the rows of the last one."""
    done("score in.jsonl scored.jsonl")
    write("good.jsonl")
    declare(folder / "good.jsonl", data=["scored.jsonl"])
    assert call("score in.jsonl scored.jsonl train_data=good.jsonl", *KENLM) == 0


@pytest.mark.parametrize("stage", STAGES)
def test_in_may_be_out(folder, stage):
    write("other.jsonl")
    os.symlink("other.jsonl", "link.jsonl")
    done(f"{stage} in.jsonl in.jsonl", f"{stage} link.jsonl other.jsonl", f"{stage} other.jsonl link.jsonl")
    assert Path("link.jsonl").is_symlink() and read_manifest("link.jsonl")


def test_a_folder_may_be_in_and_out(folder):
    write("parts/part-00000.jsonl")
    done(f"select parts parts {SHARDS}", f"order parts parts/ {SHARDS}", f"order parts parts {SHARDS} ascending=false")
    assert len(list(Path("parts").iterdir())) == 3


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_empty_may_be_replaced(folder, stage):
    Path("out.jsonl").touch()  # as mktemp makes it
    done(f"{stage} in.jsonl out.jsonl")
    if stage != "score":
        Path("out").mkdir()
        done(f"{stage} in.jsonl out {SHARDS}")


def test_an_output_of_another_call_may_be_replaced(folder):
    done("select in.jsonl out.jsonl rejects=no.jsonl", "order in.jsonl out.jsonl", "score in.jsonl out.jsonl")
    write("other.jsonl", ROWS[3:])
    done("select other.jsonl out.jsonl rejects=no.jsonl")
    done(f"order in.jsonl out {SHARDS}", "order in.jsonl out rows_per_shard=3")
    os.rename("out.jsonl", "moved.jsonl")
    os.rename(manifest_path("out.jsonl"), manifest_path("moved.jsonl"))
    done("order in.jsonl moved.jsonl")


def killed_before_its_manifest(monkeypatch, line):
    """OUT is in its place, and the record that it is complete is not."""
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_publish_manifest", killed)
        assert call(line) == 130
    target = line.split()[2]
    assert Path(target).exists() and pending_path(target).exists()


def killed(*arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize("line", ["order in.jsonl out.jsonl", f"order in.jsonl out {SHARDS}"])
@pytest.mark.parametrize("before", [None, "shuffle"])
def test_a_run_that_was_killed_before_its_manifest_is_known(folder, monkeypatch, capsys, line, before):
    target, *keys = line.split()[2:]
    if before:
        assert main(ORDERING, ["in.jsonl", target, before, *keys]) == 0
    killed_before_its_manifest(monkeypatch, line)
    capsys.readouterr()
    done(line)
    assert "up to date" in capsys.readouterr().out
    assert manifest_path(target).exists() and not pending_path(target).exists()
    killed_before_its_manifest(monkeypatch, f"{line} ascending=false")
    done(f"{line} window_size=2")


@pytest.mark.parametrize("line", ["select in.jsonl out.jsonl", "order in.jsonl out.jsonl", "score in.jsonl out.jsonl"])
def test_overwrite_out_is_no_part_of_what_makes_two_calls_the_same(folder, capsys, line):
    done(line)
    assert "overwrite_out" not in read_manifest("out.jsonl")["config"]
    done(f"{line} overwrite_out=true", f"{line} overwrite_out=false", line)
    assert capsys.readouterr().out.count("up to date") == 3
    os.remove("out.jsonl"), os.remove(manifest_path("out.jsonl"))
    done(f"{line} overwrite_out=true", line)
    assert capsys.readouterr().out.count("up to date") == 1


def test_the_same_call_does_nothing_whatever_out_was_made_of(folder, capsys):
    """IN and OUT were each made from the other once: an output that is up to date replaces nothing."""
    done("order in.jsonl a.jsonl", "select a.jsonl in.jsonl overwrite_out=true", "select a.jsonl in.jsonl")
    assert capsys.readouterr().out.count("up to date") == 1


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"inputs": 3}', '{"inputs": {"data": [7, {}]}, "output": {}}'])
def test_a_damaged_manifest_tells_nothing(folder, capsys, content):
    done("select in.jsonl out.jsonl")
    manifest_path("out.jsonl").write_text(content)
    assert call("order out.jsonl new.jsonl") == 0
    assert call("order in.jsonl out.jsonl") == 2
    assert "it was changed since it was made" in capsys.readouterr().err
