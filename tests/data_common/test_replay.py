"""Outputs made again from their manifests: every stage, what changed since, and nothing else touched."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import utils
from data_common.calls.cli import main
from data_common.replay import comparison
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from model_eval.entry import STAGE as EVALUATION
from model_train.entry import STAGE as TRAINING
from tests import golden

STAGES = {"score": SCORING, "select": SELECTION, "order": ORDERING, "train": TRAINING, "eval": EVALUATION}
TRAIN = f"{' '.join(golden.TRAIN)} device=cpu"
SCORE = "target_data=target.jsonl workers=1 score_field=new"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    golden.write_inputs(tmp_path / "work")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path / "work"


def call(stage: str, words: str) -> None:
    assert main(STAGES[stage], words.split()) == 0


def replay(*words) -> int:
    try:
        return utils.main(["--replay", *map(str, words)])
    except SystemExit as end:
        return end.code


def content(folder: Path) -> dict:
    """All files below a folder, with the time of their last change."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def change_manifest(out: str, **values) -> None:
    path = Path(f"{out}.manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("stage", "words", "out"),
    [
        ("score", f"in.jsonl out.jsonl dsir {SCORE}", "out.jsonl"),
        ("score", f"in.jsonl out.jsonl.zst dsir {SCORE} work_dir=elsewhere", "out.jsonl.zst"),
        ("score", "in.jsonl out.jsonl perplexity model=model max_length=64 device=cpu score_field=new", "out.jsonl"),
        ("select", "in.jsonl out.jsonl top-r r=0.4 direction=higher rejects=no.jsonl", "out.jsonl"),
        ("select", "in.jsonl out.jsonl top-r r=0.4 direction=higher rejects=no.jsonl", "no.jsonl"),
        ("select", "in.jsonl deep/er/out.jsonl gumbel direction=lower group_field=prompt", "deep/er/out.jsonl"),
        ("order", "in.jsonl out shuffle rows_per_shard=9 window_size=4", "out"),
        ("order", "in.jsonl out.jsonl folding select=top-k select.k=7 select.direction=lower plot=true", "out.jsonl"),
        ("train", f"in.jsonl model trained pretrain {TRAIN}", "trained"),
        ("eval", "model r.yaml perplexity data=target.jsonl max_length=64 device=cpu", "r.yaml"),
        ("eval", "model model/r.yaml lm_evaluation_harness tasks=task device=cpu", "model/r.yaml"),
    ],
)
def test_an_output_of_every_stage_is_equal_and_nothing_is_touched(stage, words, out, folder, capfd):
    call(stage, words)
    before = content(folder)
    capfd.readouterr()
    assert replay(f"{out}.manifest.json") == 0
    said = capfd.readouterr()
    assert said.out.startswith(f"in {folder}: ") and "\nequal: " in said.out
    assert content(folder) == before and not list(folder.parent.joinpath("tmp").iterdir())


def test_a_training_that_went_on_from_another_is_made_again(folder, capfd):
    call("train", f"in.jsonl model first pretrain {TRAIN}")
    call("train", f"in.jsonl model second pretrain {TRAIN} continue_from=first rewarmup_steps=2")
    before = content(folder)
    assert replay("second.manifest.json") == 0
    assert "\nequal: the weights" in capfd.readouterr().out and content(folder) == before
    path = next(Path("first").glob("checkpoint-*/optimizer.pt"))
    path.write_bytes(path.read_bytes()[:-1])
    assert replay("second.manifest.json") == 2
    assert "error: continue_from: " in capfd.readouterr().err


def test_a_save_dir_keeps_what_was_made_and_an_output_may_be_named(folder, capfd):
    call("order", "in.jsonl out.jsonl sorting")
    assert replay("out.jsonl", "--save-dir", "again") == 0
    assert f"it was made in {folder}/again" in capfd.readouterr().out
    assert Path("again/out.jsonl").read_bytes() == Path("out.jsonl").read_bytes()
    assert replay("out.jsonl", "--save-dir", "again") == 2
    assert capfd.readouterr().err == "error: --save-dir again holds something: name a new folder\n"


def test_another_output_is_told_kept_and_exit_code_1(folder, capfd):
    call("score", f"in.jsonl out.jsonl dsir {SCORE}")
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().split("\n")[:-1]]
    rows[4]["new"] += 0.5
    Path("out.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    from data_common.files.fingerprint import fingerprint

    change_manifest("out.jsonl", output=fingerprint("out.jsonl"))
    assert replay("out.jsonl.manifest.json") == 1
    said = capfd.readouterr().out
    assert "different: 1 lines differ, the first is line 5; new by up to 0.5\n" in said.replace(
        "1 line differs", "1 lines differ"
    )
    kept = Path(said.split("what was made: ")[1].strip())
    assert kept.is_relative_to(folder.parent / "tmp") and len(kept.read_text().split("\n")) == len(rows) + 1


def test_inputs_are_checked_first_each_in_a_line(folder, capfd):
    call("score", f"in.jsonl out.jsonl dsir {SCORE}")
    before = Path("in.jsonl").read_text()
    Path("in.jsonl").write_text(before[:-2] + " }\n")
    Path("target.jsonl").unlink()
    capfd.readouterr()
    assert replay("out.jsonl.manifest.json") == 2
    said = capfd.readouterr()
    first, second = said.err.removesuffix("\n").split("\n")
    assert first.startswith(f"error: data: {folder}/in.jsonl was changed since (") and not said.out
    assert second.strip().startswith(f"target_data: {folder}/target.jsonl is missing (")


def test_what_is_not_as_it_was_is_told_before(folder, capfd):
    call("select", "in.jsonl out.jsonl top-r r=0.5 direction=higher")
    record = json.loads(Path("out.jsonl.manifest.json").read_text())
    versions, config = record["versions"] | {"numpy": "1.0"}, record["config"] | {"speed": 3}
    change_manifest("out.jsonl", versions=versions, config=config, git_commit="abc", method_versions={"top-r": 1})
    capfd.readouterr()
    assert replay("out.jsonl.manifest.json", "--dry-run") == 0
    said = capfd.readouterr().out
    lines = [line for line in said.split("\n") if line.startswith("note: ")]
    assert lines[0] == "note: key speed=3 is no key of top-r any more: left out"
    assert lines[1].startswith("note: git commit: was abc, is ")
    assert lines[2] == f"note: numpy: was 1.0, is {np.__version__}"
    assert len(lines) == 3 and "equal" not in said
    assert replay("out.jsonl.manifest.json") == 0
    assert "\nequal: " in capfd.readouterr().out


def test_another_version_of_the_method_and_another_machine(folder, capfd, monkeypatch):
    import data_scoring.dsir.method as dsir

    call("score", f"in.jsonl out.jsonl dsir {SCORE}")
    monkeypatch.setattr(dsir, "VERSIONS", {2: "it was wrong"}, raising=False)
    change_manifest("out.jsonl", machine={"processor": "Z80", "processes": 2, "gpu": "Voodoo"})
    capfd.readouterr()
    assert replay("out.jsonl.manifest.json", "--dry-run") == 0
    said = capfd.readouterr().out
    assert "note: results of dsir changed in version 2: it was wrong\n" in said
    assert "processor: was Z80, is " in said and "computed on Voodoo" in said and "computed by 2 processes" in said


def test_a_project_that_was_moved_is_found(folder, capfd):
    call("select", "in.jsonl deep/out.jsonl top-r r=0.5 direction=higher")
    moved = folder.parent / "moved"
    folder.rename(moved)
    os.chdir(folder.parent)
    assert replay("moved/deep/out.jsonl.manifest.json") == 0
    assert f"in {moved}: " in capfd.readouterr().out


def test_relative_inputs_of_an_absolute_output_are_found_from_elsewhere(folder, capfd, monkeypatch):
    call("select", f"in.jsonl {folder}/out.jsonl top-r r=0.5 direction=higher")
    monkeypatch.chdir("/")
    assert replay(folder / "out.jsonl.manifest.json") == 0


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("select", "scored.jsonl out.jsonl top-r r=0.4 score_field=new"),
        ("select", "scored.jsonl out.jsonl round-robin k=9 r=null score_fields=[new,score] lower_is_better=[score]"),
        ("order", "scored.jsonl out.jsonl sorting score_field=new select=top-k select.k=7"),
        ("score", "scored.jsonl out.jsonl combine fields=[new,score] lower_is_better=[] score_field=both"),
    ],
)
def test_directions_are_those_of_then(stage, words, folder, capfd):
    """The manifest of IN, which told them, is none of the inputs and may be gone."""
    call("score", f"in.jsonl scored.jsonl dsir {SCORE}")
    change_manifest("scored.jsonl", directions={"new": "lower"})
    call(stage, words)
    os.remove("scored.jsonl.manifest.json")
    assert replay("out.jsonl.manifest.json") == 0
    assert "equal: " in capfd.readouterr().out


def test_a_folder_of_shards_must_have_the_shards_of_then(folder, capfd):
    Path("shards").mkdir()
    lines = Path("in.jsonl").read_text()
    Path("shards/a.jsonl").write_text(lines)
    call("order", "shards out.jsonl sorting")
    Path("shards/b.jsonl").write_text(lines)
    capfd.readouterr()
    assert replay("out.jsonl.manifest.json") == 2
    assert "shards had 1 files, and not those 2" in capfd.readouterr().err


def test_records_without_the_words_of_the_call(folder, capfd):
    call("train", f"in.jsonl model trained pretrain {TRAIN}")
    record = json.loads(Path("trained.manifest.json").read_text())
    for name in ("call", "machine", "weights"):
        del record[name]
    Path("trained.manifest.json").write_text(json.dumps(record))
    assert replay("trained.manifest.json") == 0
    Path("trained/config.json").write_text("{}")
    assert replay("trained.manifest.json") == 2
    assert "no digests of the weights" in capfd.readouterr().err


def test_other_weights_are_told(folder, capfd):
    call("train", f"in.jsonl model trained pretrain {TRAIN}")
    change_manifest("trained", weights={"model.safetensors": "0" * 32})
    assert replay("trained.manifest.json") == 1
    assert "different: model.safetensors: other weights" in capfd.readouterr().out


def test_code_of_others_runs_only_when_asked_for(folder, capfd):
    call("eval", "model r.yaml perplexity data=target.jsonl max_length=64 device=cpu trust_remote_code=true")
    capfd.readouterr()
    assert replay("r.yaml.manifest.json") == 2
    assert "(trust_remote_code): --allow-code lets it run again" in capfd.readouterr().err
    assert replay("r.yaml.manifest.json", "--allow-code") == 0


def test_what_utils_makes_is_made_again(folder, capfd):
    assert utils.main(["--content", "model", "--id", "tiny", "--data", "in.jsonl", "--save-dir", "tiny"]) == 0
    assert replay("tiny.manifest.json") == 0
    Path("t.csv").write_text("text,n\na,1\nb,2\n")
    assert utils.main(["--content", "dataset", "--id", "t.csv", "--save-dir", "t.jsonl", "--sample-size", "1"]) == 0
    assert replay("t.jsonl.manifest.json") == 0
    assert capfd.readouterr().out.count("\nequal: ") == 2


def test_a_call_that_fails_gives_its_exit_code_and_leaves_nothing(folder, capfd):
    call("select", "in.jsonl out.jsonl top-r r=0.5 direction=higher")
    change_manifest("out.jsonl", config={"r": 7, "direction": "higher"})
    assert replay("out.jsonl.manifest.json") == 2
    assert "r: 7 is not valid" in capfd.readouterr().err
    assert not list(folder.parent.joinpath("tmp").iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("none.jsonl", "--replay none.jsonl: No such file or directory (the manifest of an output is called NAME.man"),
        ("in.jsonl", "--replay in.jsonl is no manifest of an output ("),
        ("model/config.json", "--replay model/config.json is no manifest of an output (Object missing required field"),
        ("foreign.manifest.json", "--replay foreign.manifest.json: no stage os is here"),
        ("out.jsonl --content model", "--content does not go with --replay"),
        ("torn.manifest.json", "is no manifest of an output (Expected `array`, got `int` - at `$.call.paths`)"),
        ("nowhere.manifest.json", "is no manifest of an output (an input has neither path nor id)"),
        ("model", "--replay model: no regular file (the manifest of an output is called NAME.manifest.json)"),
        ("out.jsonl --seed 3", "unrecognized arguments"),
    ],
)
def test_what_the_user_can_cure_is_one_line(words, message, folder, capfd):
    empty = {"config": {}, "inputs": {}, "output": {"path": "x", "bytes": 1}}
    Path("foreign.manifest.json").write_text(json.dumps({"stage": "os", "method": "path"} | empty))
    torn = {"stage": "data_selection", "method": "top-r", "call": {"paths": 3}} | empty
    Path("torn.manifest.json").write_text(json.dumps(torn))
    Path("nowhere.manifest.json").write_text(json.dumps(torn | {"call": {}, "inputs": {"data": {"bytes": 1}}}))
    assert replay(*words.split()) == 2
    error = capfd.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


def test_lines_of_compressed_rows_are_compared(tmp_path):
    import gzip

    (tmp_path / "a.gz").write_bytes(gzip.compress(b'{"x": 1, "y": "a"}\n{"x": 2}\n', 1))
    (tmp_path / "b.gz").write_bytes(gzip.compress(b'{"x": 1, "y": "a"}\n{"x": 2}\n', 9))
    assert comparison._lines(tmp_path / "a.gz", tmp_path / "b.gz") == "the same lines, compressed by another version"
    (tmp_path / "b.gz").write_bytes(gzip.compress(b'{"x": 1.5, "y": "b"}\n'))
    assert comparison._lines(tmp_path / "a.gz", tmp_path / "b.gz").startswith(
        "2 lines differ, the first is line 1; x by"
    )
