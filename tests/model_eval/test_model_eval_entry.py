"""The stage as a user calls it: result, manifest, skipping, and errors in one line."""

import json
import math
from pathlib import Path

import pytest
import yaml

from data_common.calls.cli import main
from data_common.files.fingerprint import fingerprint
from model_eval.entry import STAGE
from model_eval.provenance import provenance
from tests.models import byte_tokenizer, save_model
from tests.records import declare


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with held-out text and a task."""
    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"text number {i}"} for i in range(5)]
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task").mkdir()
    choices = [{"q": f"{i} or", "options": ["one", "another"], "answer": i % 2} for i in range(6)]
    (tmp_path / "task" / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in choices))
    (tmp_path / "task" / "pairs.yaml").write_text(
        "task: pairs\ndataset_path: json\ndataset_kwargs: {data_files: {test: pairs.jsonl}}\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_choice: options\ndoc_to_target: answer\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    return tmp_path


def test_perplexity_result(here, model, capsys):
    assert main(STAGE, [model, "out/result.yaml", "perplexity", "data=held.jsonl", "max_length=32"]) == 0
    result = yaml.safe_load((here / "out/result.yaml").read_text())
    averages = ["summary_average", "summary_average_by_item", "averaged_tasks"]
    assert list(result) == ["model", "method", "tasks", *averages, "settings", "model_content", "made_by"]
    assert result["settings"] == {"dtype": "float32"} and result["made_by"] == {}
    assert result["model_content"] == fingerprint(model)["xxh3"]
    assert (result["model"], result["method"], result["summary_average"]) == (model, "perplexity", None)
    held = result["tasks"]["held"]
    assert (held["metric"], held["n"], held["dropped_rows"]) == ("bits_per_byte", 5, 0)
    assert held["perplexity"] == pytest.approx(math.exp(held["loss"]))
    manifest = json.loads((here / "out/result.yaml.manifest.json").read_text())
    assert manifest["tasks"] == result["tasks"]
    assert manifest["config"]["max_length"] == 32
    shown = capsys.readouterr().out
    assert "held  bits_per_byte" in shown and "wrote out/result.yaml" in shown and "average" not in shown


def test_lm_evaluation_harness_result(here, model, capsys):
    assert main(STAGE, [model, "result.yaml", "lm_evaluation_harness", "tasks=task"]) == 0
    result = yaml.safe_load((here / "result.yaml").read_text())
    pairs = result["tasks"]["pairs"]
    assert (pairs["metric"], pairs["n"], result["summary_average"]) == ("acc", 6, pairs["value"])
    assert isinstance(pairs["stderr"], float)
    assert "average accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, data", [(["perplexity", "data=held.jsonl"], "held.jsonl"),
                    (["lm_evaluation_harness", "tasks=task"], "task/pairs.jsonl")],
)  # fmt: skip
def test_a_run_that_is_done_is_skipped(here, model, capsys, words, data):
    call = [model, "result.yaml", *words]
    assert main(STAGE, call) == main(STAGE, call) == 0
    assert "up to date" in capsys.readouterr().out
    file = here / data
    file.write_text(file.read_text() * 2)
    assert main(STAGE, call) == 0
    assert "up to date" not in capsys.readouterr().out


def test_dropped_rows_are_shown(here, model, capsys):
    with open("held.jsonl", "a") as file:
        file.write('{"text": 3}\n{"text": ""}\n')
    assert main(STAGE, [model, "result.yaml", "perplexity", "data=held.jsonl", "on_bad_row=drop"]) == 0
    assert "dropped 2 bad rows of held" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (["MODEL", "r.yaml", "perplexty"], "no method 'perplexty'; did you mean 'perplexity'"),
        (["MODEL", "r.yaml", "perplexity", "no.yaml"], "no configuration file no.yaml"),
        (["MODEL", "r.yaml", "perplexity", "dta=held.jsonl"], "unknown key 'dta'; did you mean 'data'"),
        (["MODEL", "r.yaml", "perplexity", "max_length=1"], "max_length: 1 is not valid"),
        (["MODEL", "r.yaml", "perplexity", "data=none.jsonl"], "no such file: none.jsonl"),
        (["MODEL", "r.yaml", "perplexity", "data=held.jsonl", "text_field=txt"], "held.jsonl:1: txt is missing"),
        (["no/model/here", "r.yaml", "perplexity", "data=held.jsonl"], "no model folder no/model/here"),
        (["bare", "r.yaml", "perplexity", "data=held.jsonl"], "bare has no weights"),
        (["task", "r.yaml", "perplexity", "data=held.jsonl"], "the folder task holds no model (no config.json)"),
        (["odd", "r.yaml", "perplexity", "data=held.jsonl"], "tokenizer and model of odd do not fit: 259 tokens, 258"),
        (["odd", "r.yaml", "lm_evaluation_harness", "tasks=task"], "do not fit: 259 tokens, 258 embeddings"),
        (["MODEL", "r.yaml", "lm_evaluation_harness", "tasks=task", "contamination_data=no.jsonl"], "no.jsonl"),
        (["MODEL", "r.yaml", "lm_evaluation_harness", "tasks=task", "data_dir=no"], "data_dir no is no folder"),
        (["MODEL", "r.yaml", "lm_evaluation_harness", "tasks=task", "contamination_data=task/pairs.jsonl"], "text is"),
        (["MODEL", "held.jsonl/r.yaml", "perplexity", "data=held.jsonl"], "cannot write held.jsonl/r.yaml"),
        (["MODEL", "task", "perplexity", "data=held.jsonl"], "cannot write task: it is a folder"),
        (["MODEL", "r.yaml", "lm_evaluation_harness", "tasks=task", "batch_size=0"], "batch_size: 0 is not valid"),
        (["MODEL", "r.yaml", "lm_evaluation_harness", "tasks=no/task"], "cannot read the task file"),
        (["bare", "r.yaml", "lm_evaluation_harness", "tasks=task"], "bare has no weights"),
        (["MODEL", "r.yaml", "lm_evaluation_harness", "tasks=task", "max_length=999"], "64 positions"),
    ],
)
def test_bad_input_is_one_line(here, model, capsys, words, message):
    save_model(here / "bare")
    (here / "bare" / "model.safetensors").unlink()
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "another"})
    save_model(here / "odd")
    tokenizer.save_pretrained(here / "odd")
    capsys.readouterr()
    assert main(STAGE, [model if word == "MODEL" else word for word in words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0]
    assert not list(here.glob("r.yaml*"))  # no folder of traces either


def test_broken_row_has_its_place(here, model, capsys):
    (here / "held.jsonl").write_text('{"text": "fine"}\n\n{"text": \n')
    assert main(STAGE, [model, "r.yaml", "perplexity", "data=held.jsonl"]) == 2
    assert "error: held.jsonl:3: broken JSON" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["perplexity", "lm_evaluation_harness"])
def test_shipped_configurations_name_every_key(method, capsys):
    assert main(STAGE, ["m", "r.yaml", method, "--dry-run=keys"]) == 0
    from data_common.calls.stage import REPOSITORY, keys_for, load_method

    function, default = load_method(STAGE, method)
    keys = set(keys_for(STAGE, function)[1])
    others = {"tiny.yaml", "math.yaml", "code.yaml", "all.yaml"} if method == "lm_evaluation_harness" else set()
    names = {default.name} | others
    for name in names:
        assert set(yaml.safe_load((REPOSITORY / "model_eval/config" / name).read_text())) - {"name"} == keys


def test_tasks_of_the_shipped_configurations():
    from data_common.calls.stage import REPOSITORY

    tasks = {
        name: yaml.safe_load((REPOSITORY / "model_eval/config" / f"{name}.yaml").read_text())["tasks"]
        for name in ("general", "math", "code", "all")
    }
    assert tasks["all"] == tasks["general"] + tasks["math"] + tasks["code"]
    assert [len(found) for found in tasks.values()] == [8, 3, 2, 13]


def test_keys_of_older_configurations(here, model):
    (here / "old.yaml").write_text(
        "name: general\nversion: 1.0\ndescription: x\n\ndevice: cpu\nmodel_format: hf\nbatch_size: 8\nseed: 10\n"
        "add_bos_token: true\ndtype: float\ntasks:\n  - task/pairs.yaml\n"
    )
    assert main(STAGE, [model, "result.yaml", "lm_evaluation_harness", "old.yaml"]) == 0


def test_skipped_tasks_are_listed(here, model, capsys):
    words = [model, "result.yaml", "lm_evaluation_harness", "tasks=task,other/task.yaml", "on_missing_task=skip"]
    assert main(STAGE, words) == 0
    result = yaml.safe_load((here / "result.yaml").read_text())
    assert list(result["tasks"]) == ["pairs"] and "other/task.yaml" in result["skipped"]
    assert "skipped: other/task.yaml" in capsys.readouterr().out


def test_arm_and_ratio_of_the_call(here, model):
    words = [model, "result.yaml", "perplexity", "data=held.jsonl", "max_length=32", "arm=mine", "selection_ratio=0.5"]
    assert main(STAGE, words) == 0
    result = yaml.safe_load((here / "result.yaml").read_text())
    assert (result["arm"], result["selection_ratio"]) == ("mine", 0.5)


def test_provenance_from_manifests(here, model):
    """Of data that was scored elsewhere, selected and ordered here, sharded and not, in two calls and in one."""
    from data_ordering.entry import STAGE as ORDERING
    from data_selection.entry import STAGE as SELECTION

    (here / "in.jsonl").write_text("".join(json.dumps({"score": i, "text": "word " * 9}) + "\n" for i in range(8)))
    higher = "direction=higher"
    assert main(SELECTION, ["in.jsonl", "half", "top-r", "r=0.5", higher, "rows_per_shard=2"]) == 0
    assert main(ORDERING, ["half", "ordered.jsonl", "folding"]) == 0
    fused = ["select=top-k", "select.k=2", "select.direction=higher"]
    assert main(ORDERING, ["ordered.jsonl", "fused.jsonl", "sorting", *fused]) == 0
    assert main(ORDERING, ["in.jsonl", "all.jsonl", "shuffle"]) == 0
    expected = {
        "ordered.jsonl": {"ordering": "folding", "selection": "top-r", "selection_ratio": 0.5},
        "fused.jsonl": {"ordering": "sorting", "selection": "top-k", "selection_ratio": 0.25},
        "all.jsonl": {"ordering": "shuffle", "selection_ratio": 1.0},
        "in.jsonl": {},
    }
    for name, facts in expected.items():
        (here / "trained").mkdir(exist_ok=True)
        declare(Path("trained"), stage="model_train", config={"seed": 3}, data=[name], model=model)
        assert provenance("trained") == {"training_seed": 3} | facts
    assert provenance(model) == {}
