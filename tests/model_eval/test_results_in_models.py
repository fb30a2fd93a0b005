"""Results in the folder of a model are not among its files: the calls that made it, and that read it, stay the same."""

import json
import os
from pathlib import Path

import pytest
import xxhash

from data_common.calls.cli import main
from data_common.files.atomic import manifest_path
from data_common.files.fingerprint import _sampled, fingerprint, same_content
from data_common.files.manifest import Run
from data_scoring.entry import STAGE as SCORING
from model_eval import entry
from model_eval.entry import STAGE as EVALUATION
from model_train.entry import STAGE as TRAINING
from tests.models import save_model

TRAIN = ["in.jsonl", "base", "model", "pretrain", "max_length=16", "batch_size=4", "gradient_accumulation_steps=1"]
TRAIN += ["max_tokens=64", "warmup_steps=1", "device=cpu"]
FIRST = ["model", "model/result.yaml", "perplexity", "data=in.jsonl", "max_length=32", "device=cpu"]
SECOND = ["model", "model/eval/second.yaml", *FIRST[2:]]
SCORE = ["in.jsonl", "scored.jsonl", "perplexity", "model=model", "max_length=32", "device=cpu"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _sampled.cache_clear()  # of another test's model
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": f"row {n} of words"}) + "\n" for n in range(20)))
    save_model(tmp_path / "base")
    assert main(TRAINING, TRAIN) == 0
    return tmp_path


def is_up_to_date(capsys, stage, words):
    capsys.readouterr()
    assert main(stage, words) == 0, capsys.readouterr().err
    return "is up to date" in capsys.readouterr().out


def change_a_weight():
    """In its place: same size."""
    with open("model/model.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def test_same_calls_do_nothing_after_evaluations_into_the_model(folder, capsys):
    assert main(SCORING, SCORE) == 0
    for words in (FIRST, SECOND):
        assert not is_up_to_date(capsys, EVALUATION, words)
        for stage, again in ((TRAINING, TRAIN), (SCORING, SCORE), (EVALUATION, FIRST), (EVALUATION, words)):
            assert is_up_to_date(capsys, stage, again)
    assert not is_up_to_date(capsys, EVALUATION, [*FIRST, "arm=mine"])
    assert is_up_to_date(capsys, TRAINING, TRAIN)
    change_a_weight()
    for stage, words in ((EVALUATION, FIRST), (SCORING, SCORE), (TRAINING, TRAIN)):
        assert not is_up_to_date(capsys, stage, words)
    assert is_up_to_date(capsys, EVALUATION, SECOND)  # of the weights that training has just put back


def test_training_is_the_same_call_while_an_evaluation_is_running(folder, monkeypatch, capsys):
    """Where a record of its work is there, and a draft of its result, but no manifest yet."""
    real, seen = entry.yaml.safe_dump, []

    def meanwhile(*arguments, **options):
        assert (folder / "model/.result.yaml.partial").exists() and (folder / "model/result.yaml.work").exists()
        seen.append(is_up_to_date(capsys, TRAINING, TRAIN))
        return real(*arguments, **options)

    monkeypatch.setattr(entry.yaml, "safe_dump", meanwhile)
    assert main(EVALUATION, FIRST) == 0  # its own inputs are compared at the end: no change
    assert seen == [True]
    monkeypatch.setattr(entry.yaml, "safe_dump", lambda *arguments, **options: change_a_weight() or "")
    assert main(EVALUATION, [*FIRST, "arm=mine"]) == 2
    assert "model was changed while it was read" in capsys.readouterr().err


def test_a_model_that_is_trained_into_its_own_folder_is_not_changed(folder, capsys):
    words = ["in.jsonl", "model", "model/further", *TRAIN[3:]]
    assert not is_up_to_date(capsys, TRAINING, words)
    assert is_up_to_date(capsys, TRAINING, words) and is_up_to_date(capsys, TRAINING, TRAIN)


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


RESULTS = {  # what is put into a model's folder -> what of it counts as the model's own
    ("r.yaml", "r.yaml.manifest.json", "r.yaml.work/task/step.json"): [],
    ("eval/r.yaml", "eval/r.yaml.manifest.json"): [],
    ("checkpoint-2/r.yaml", "checkpoint-2/r.yaml.manifest.json", "checkpoint-2/w"): ["checkpoint-2/w"],
    ("r.yaml.work/.lock", ".r.yaml.partial"): [],
    ("r.yaml", ".r.yaml.manifest.json.pending", "..r.yaml.manifest.json.pending.partial"): [],
    ("o.jsonl", "o.jsonl.manifest.json", "o.jsonl.png", ".o.jsonl.png.partial"): [],
    ("further/config.json", "further.manifest.json", ".further.lock"): [],
    (".further.partial/checkpoint-1/w", ".further.lock"): [],
    ("model", "model.manifest.json"): [],  # not model.safetensors
    ("r.yaml", "notes.txt"): ["notes.txt", "r.yaml"],
    (".cache/huggingface/download/.a.lock", ".gitattributes"): [
        ".cache/huggingface/download/.a.lock",
        ".gitattributes",
    ],
}


@pytest.mark.parametrize("names", RESULTS, ids=" ".join)
def test_the_models_own_files(tmp_path, names):
    model, other = tmp_path / "model", tmp_path / "other"
    for place in (model, other):
        put(place, "config.json", "model.safetensors")
    put(model, *names)
    put(other, *RESULTS[names])
    assert same_content(fingerprint(other), fingerprint(model))
    assert fingerprint(other)["bytes"] == fingerprint(model)["bytes"]
    put(model, "new.safetensors")
    assert not same_content(fingerprint(other), fingerprint(model))


def test_of_a_folder_that_holds_no_model_all_files_count(tmp_path):
    put(tmp_path / "shards", "a.jsonl")
    before = fingerprint(tmp_path / "shards")
    put(tmp_path / "shards", "b.jsonl", "b.jsonl.manifest.json")
    assert not same_content(before, fingerprint(tmp_path / "shards"))


def print_of_all(folder):
    """As an older version had it: of whatever lay in the folder."""
    digest, files = xxhash.xxh3_128(), sorted(path for path in Path(folder).rglob("*") if path.is_file())
    for path in files:
        digest.update(os.fsencode(path.relative_to(folder)) + path.read_bytes())
    return {"path": folder, "bytes": sum(path.stat().st_size for path in files), "xxh3": digest.hexdigest()}


def test_a_record_that_knew_results_as_files_of_the_model_is_still_known(folder, capsys):
    """Of an older version, which had read the model after it was evaluated into its folder."""
    assert main(EVALUATION, FIRST) == 0 and main(SCORING, SCORE) == 0
    once = print_of_all("model")
    assert once["xxh3"] != fingerprint("model")["xxh3"]
    replace_print("scored.jsonl", once)
    assert is_up_to_date(capsys, SCORING, SCORE)
    [known] = Run("stage", "method", {}, {"model": "model"}, "out").contents_once()
    assert known == {"model": {name: once[name] for name in ("bytes", "xxh3")}}
    _sampled.cache_clear()
    assert main(EVALUATION, SECOND) == 0
    assert not is_up_to_date(capsys, SCORING, SCORE)  # to the older version that was another model, too


def replace_print(output, content):
    record = json.loads(manifest_path(output).read_text())
    assert record["inputs"]["model"]["own"]
    record["inputs"]["model"] = content
    manifest_path(output).write_text(json.dumps(record))


def test_steps_of_a_work_folder_do_not_depend_on_results_either(folder, capsys):
    """Neither on results that an older version counted, nor on those that are put there later."""
    assert main(SCORING, SCORE) == 0
    for words in (FIRST, SECOND):
        assert main(EVALUATION, words) == 0
        os.remove("scored.jsonl")
        capsys.readouterr()
        assert main(SCORING, SCORE) == 0
        assert "score: up to date" in capsys.readouterr().out
