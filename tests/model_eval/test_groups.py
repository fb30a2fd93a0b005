"""Groups against plain lm-eval; averages; literal answers; names and places of tasks."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from model_eval.accuracy import averages
from model_eval.compare.results import read_results
from model_eval.entry import STAGE, average_line
from model_eval.evaluation import folder_of
from tests.model_eval.direct import evaluation, harness_method
from tests.model_eval.test_lm_evaluation_harness import items, write_task
from tests.models import save_model

WEIGHTED = [{"metric": "acc", "weight_by_size": True}]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


def write_group(folder: Path, name: str = "both", members=("one", "two"), **changes) -> str:
    content = {"group": name, "task": list(members), "aggregate_metric_list": WEIGHTED} | changes
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return str(folder / f"{name}.yaml")


def write_tasks(folder: Path) -> None:
    write_task(folder, "one", rows=items(12))
    write_task(folder, "two", rows=items(2))
    write_task(folder, "three", rows=items(5))


def groups_of(model: str, folder: Path, tasks: str, **keys) -> tuple[dict, dict]:
    found = evaluation(harness_method, model, folder, tasks=tasks, **keys)
    return found.tasks, found.notes.get("groups", {})


def plain(model: str, folder: Path, names: list[str], **options) -> dict:
    """lm-eval itself, in the folder of the tasks."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    before = os.getcwd()
    os.chdir(folder)
    try:
        found = simple_evaluate(
            model="hf",
            model_args={"pretrained": model, "add_bos_token": True, "dtype": "float32"},
            tasks=names,
            device="cpu",
            batch_size=4,
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            **{f"{kind}_seed": 10 for kind in ("random", "numpy_random", "torch_random", "fewshot_random")},
            **options,
        )
    finally:
        os.chdir(before)
    return found["groups"]


NESTED = [{"group": "inner", "task": ["two", "three"], "aggregate_metric_list": WEIGHTED}, "one"]
CASES = {
    "by item": {},
    "by task": {"aggregate_metric_list": [{"metric": "acc", "weight_by_size": False}]},
    "weights are by item where nothing is said": {"aggregate_metric_list": [{"metric": "acc"}]},
    "two metrics": {"aggregate_metric_list": [{"metric": "acc"}, {"metric": "acc_norm", "weight_by_size": False}]},
    "a mapping, a filter": {"aggregate_metric_list": {"metric": "acc", "filter_list": "none"}},
    "a group in a group": {"task": NESTED},
    "a tag": {"task": ["tagged"]},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_equals_plain_lm_eval(tmp_path, model, changes):
    folder = tmp_path / "tasks"
    write_tasks(folder)
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text((folder / f"{name}.yaml").read_text() + "tag: tagged\n")
    group = write_group(folder, **changes)
    theirs = plain(model, folder, ["both"])
    for tasks in (group, str(folder)):
        _, ours = groups_of(model, tmp_path, tasks)
        assert ours.keys() == theirs.keys()
        for name, one in ours.items():
            assert one["metrics"] == {key: value for key, value in theirs[name].items() if key in one["metrics"]}
            assert one["stderr"] == pytest.approx(theirs[name][f"{one['metric']}_stderr,none"])
            assert one["n"] == theirs[name]["sample_len"]


def test_settings_of_a_group_are_those_of_its_tasks(tmp_path, model):
    folder = tmp_path / "tasks"
    write_tasks(folder)
    members = ["one", {"task": "two", "num_fewshot": 1}]
    group = write_group(folder, members=members, num_fewshot=2, fewshot_split="test")
    tasks, groups = groups_of(model, tmp_path, group)
    assert {name: one["num_fewshot"] for name, one in tasks.items()} == {"one": 2, "two": 1}
    assert groups["both"]["value"] == pytest.approx(plain(model, folder, ["both"])["both"]["acc,none"])


def test_the_group_alone_takes_its_tasks_only(tmp_path, model, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tasks(tmp_path / "tasks")
    write_group(tmp_path / "tasks")
    assert main(STAGE, [model, "r.yaml", "lm_evaluation_harness", "tasks=tasks/both.yaml", "device=cpu"]) == 0
    result, shown = yaml.safe_load(Path("r.yaml").read_text()), capsys.readouterr().out
    one, two = (result["tasks"][name] for name in ("one", "two"))
    assert list(result["tasks"]) == ["one", "two"] and result["groups"]["both"]["tasks"] == ["one", "two"]
    expected = (one["metrics"]["acc,none"] * 12 + two["metrics"]["acc,none"] * 2) / 14
    assert result["groups"]["both"]["value"] == pytest.approx(expected)
    assert "both (2 tasks, by item)  acc" in shown
    by_item = (one["value"] * 12 + two["value"] * 2) / 14
    assert f"average accuracy: {(one['value'] + two['value']) / 2:.4f} (2 tasks, each counted the same)" in shown
    assert f"{by_item:.4f} (each item the same)" in shown and result["summary_average_by_item"] == by_item
    assert list(read_results(["r.yaml"])) == ["one", "two"]
    before = Path("tasks/both.yaml").read_text()
    Path("tasks/both.yaml").write_text(before.replace("weight_by_size: true", "weight_by_size: false"))
    assert main(STAGE, [model, "r.yaml", "lm_evaluation_harness", "tasks=tasks/both.yaml", "device=cpu"]) == 0
    assert yaml.safe_load(Path("r.yaml").read_text())["groups"]["both"]["weighted"] == "by task"


@pytest.mark.parametrize("changes, message", [
    ({"task": ["one", "nothing_like_it"]}, "nothing_like_it: unknown task"),
    ({"task": ["one", {"task": "arc_easy", "num_fewshot": 2}]}, "arc_easy is in no YAML beside the group"),
    ({"task": ["one", 3]}, "has a member that is neither a name nor"),
    ({"task": ["one", "both"]}, "the group both holds itself"),
    ({"aggregate_metric_list": [{"metric": "acc", "aggregation": "max"}]}, "and `aggregation: mean`"),
    ({"task": ["one", {"task": "two", "include": "evil.yaml"}]}, "two: include belongs into a task file"),
    ({"aggregate_metric_list": [{"weight_by_size": True}]}, "wanted `metric: name`"),
])  # fmt: skip
def test_groups_that_cannot_be_had(tmp_path, monkeypatch, changes, message):
    from model_eval.lm_evaluation_harness import harness

    write_tasks(tmp_path / "tasks")
    few = harness.TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    monkeypatch.setattr(harness, "own_tasks", lambda: few)
    with pytest.raises(UserError, match=message):
        groups_of("no-model", tmp_path, write_group(tmp_path / "tasks", **changes))


def test_a_folder_does_not_need_what_its_groups_want_from_elsewhere(tmp_path, model, capsys):
    """Its own tasks are evaluated, as ever."""
    write_tasks(tmp_path / "tasks")
    write_group(tmp_path / "tasks", "wide", members=["one", "arc_easy"])
    write_group(tmp_path / "tasks", "odd", members=["one", 3])
    write_group(tmp_path / "tasks")
    tasks, groups = groups_of(model, tmp_path, str(tmp_path / "tasks"))
    assert list(groups) == ["both"] and sorted(tasks) == ["one", "three", "two"]
    shown = capsys.readouterr().out
    assert "note: no number of the group wide: arc_easy is not in" in shown and "group odd: " in shown


@pytest.mark.parametrize("line", ["doc_to_text: !function evil.f", "include: evil.yaml"])
def test_a_group_file_names_no_code(tmp_path, line):
    write_tasks(tmp_path / "tasks")
    (tmp_path / "tasks/evil.yaml").write_text("doc_to_target: !function evil.f\n")
    group = write_group(tmp_path / "tasks")
    Path(group).write_text(Path(group).read_text() + line + "\n")
    for allowed in (True, False):
        with pytest.raises(UserError, match=r"yaml:\d+: !function evil.f: code belongs into a task file"):
            groups_of("no-model", tmp_path, group, allow_code_execution=allowed)


def test_a_group_whose_task_is_skipped_has_no_number(tmp_path, model):
    write_tasks(tmp_path / "tasks")
    group = write_group(tmp_path / "tasks")
    (tmp_path / "tasks/two.jsonl").unlink()
    found = evaluation(harness_method, model, tmp_path, tasks=group, on_missing_task="skip")
    assert list(found.tasks) == ["one"] and "groups" not in found.notes
    assert found.notes["skipped"]["both"] == "its member two is missing"


def test_averages():
    tasks = {"a": {"metric": "acc", "value": 1.0, "n": 1}, "b": {"metric": "acc", "value": 0.5, "n": 4}}
    tasks["c"] = {"metric": "perplexity", "value": 9.0, "n": 7}
    found = averages(tasks)
    assert found == {"summary_average": 0.75, "summary_average_by_item": 0.6, "averaged_tasks": 2}
    assert average_line(**found) == (
        "average accuracy: 0.7500 (2 tasks, each counted the same), 0.6000 (each item the same)"
    )
    assert average_line(**averages({"a": tasks["a"]})) == "average accuracy: 1.0000"
    assert averages({}) == {"summary_average": None, "summary_average_by_item": None, "averaged_tasks": 0}


LITERAL = {"doc_to_choice": ["A", "B"], "doc_to_target": "A"}


def test_a_literal_answer(tmp_path, model, capsys):
    """Against lm-eval with the same answer in a column."""
    write_task(tmp_path / "literal", **LITERAL)
    found, _ = groups_of(model, tmp_path, str(tmp_path / "literal"))
    note = "doc_to_target: A is no column: it is the same for every item"
    assert found["words"]["notes"] == [note] and f"words: {note}" in capsys.readouterr().out
    rows = [row | {"known": "A"} for row in items()]
    write_task(tmp_path / "column", rows=rows, **LITERAL | {"doc_to_target": "known"})
    (tmp_path / "again").mkdir()
    column, _ = groups_of(model, tmp_path / "again", str(tmp_path / "column"))
    assert found["words"]["metrics"] == column["words"]["metrics"] and "notes" not in column["words"]


def test_a_literal_prompt(tmp_path, model):
    write_task(tmp_path / "literal", doc_to_text="Hello")
    write_task(tmp_path / "template", doc_to_text="{{'Hello'}}")
    found, same = (groups_of(model, tmp_path, str(tmp_path / name))[0]["words"] for name in ("literal", "template"))
    assert found["items"] == same["items"] and found["metrics"] == same["metrics"]
    assert found["notes"] == ["doc_to_text: Hello is no column: it is the same for every item"]


@pytest.mark.parametrize("changes, rows, message", [
    (LITERAL | {"doc_to_target": "C"}, items(), r"words\.jsonl:1: C is missing"),
    ({"doc_to_target": "anser"}, items(), "doc_to_target: anser is no column; did you mean 'answer'"),
    (LITERAL, [*items(2), items()[0] | {"A": 1}], "some rows have a column A, and some have not"),
    (LITERAL | {"doc_to_target": "answer"}, [*items(2), {"passage": "x"}], r"words\.jsonl:3: answer is missing"),
])  # fmt: skip
def test_what_is_no_literal(tmp_path, changes, rows, message):
    write_task(tmp_path, rows=rows, **changes)
    with pytest.raises(UserError, match=message):
        groups_of("no-model", tmp_path, str(tmp_path))


@pytest.mark.parametrize("name", ["my/task", "../up", ".hidden", "a b", "ü", "/root"])
def test_names_that_are_no_names_of_folders(tmp_path, model, name):
    assert Path(folder_of(name)).name == folder_of(name) not in (".", "..")
    write_task(tmp_path / "task")
    path = tmp_path / "task/words.yaml"
    path.write_text(path.read_text().replace("task: words", f"task: {json.dumps(name)}"))
    result = tmp_path / "result.yaml"
    assert main(STAGE, [model, str(result), "lm_evaluation_harness", f"tasks={path}", "device=cpu"]) == 0
    assert (tmp_path / "result.yaml.work" / folder_of(name) / "items.npy").exists()
    [outcome] = read_results([str(result)])[name].values()
    assert outcome[0].items is not None and sorted(os.listdir(tmp_path)) == [
        "result.yaml", "result.yaml.manifest.json", "result.yaml.work", "task",
    ]  # fmt: skip


def test_folders_of_data_beside_the_task_file(tmp_path, model, monkeypatch):
    """From another working folder; and a change of the data is a change of the call."""
    write_task(tmp_path / "plain", rows=items(6))
    for kind, changes in {
        "data_dir": {"dataset_kwargs": {"data_dir": "rows"}},
        "dataset_path": {"dataset_path": "rows", "dataset_kwargs": None},
    }.items():
        write_task(tmp_path / kind, **changes)
        (tmp_path / kind / "rows").mkdir()
        shutil.copy(tmp_path / "plain/words.jsonl", tmp_path / kind / "rows/test.jsonl")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    metrics = {}
    for kind in ("plain", "data_dir", "dataset_path"):
        words = [model, f"{kind}.yaml", "lm_evaluation_harness", f"tasks=../{kind}", "device=cpu"]
        assert main(STAGE, words) == 0
        metrics[kind] = yaml.safe_load(Path(f"{kind}.yaml").read_text())["tasks"]["words"]["metrics"]
        if kind != "plain":
            with open(f"../{kind}/rows/test.jsonl", "a") as file:
                file.write(json.dumps(items(9)[8]) + "\n")
            assert main(STAGE, words) == 0
            assert yaml.safe_load(Path(f"{kind}.yaml").read_text())["tasks"]["words"]["n"] == 7
    assert metrics["plain"] == metrics["data_dir"] == metrics["dataset_path"]


def test_what_lm_eval_warns_of_is_told_once_and_kept(tmp_path, model, capsys):
    """Labels that no choice has, in three items; a metric without a rule how it is averaged."""
    rows = [*items(4), *(row | {"answer": 7} for row in items(3))]
    write_task(tmp_path, rows=rows, metric_list=[{"metric": "acc", "higher_is_better": True}])
    result = groups_of(model, tmp_path, str(tmp_path / "words.yaml"))[0]["words"]
    shown = capsys.readouterr().out
    label, rule = "lm-eval: Label index was not in within range", "lm-eval: [Task: words] metric acc is defined, but"
    own = "the label of 3 of 7 items is not one of the choices: they count as wrong"
    starts = zip(result["notes"], (own, rule, label), strict=True)
    assert [note.startswith(start) for note, start in starts] == [True] * 3
    assert result["notes"][2].endswith(" (3 times)") and max(map(len, result["notes"])) < 250
    assert shown.count(label) == shown.count(rule) == 1
