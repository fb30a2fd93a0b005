"""The lm-eval method against direct calls of lm-eval; task files found, checked and read from anywhere."""

import json
import os
from pathlib import Path

import pytest
import yaml

from data_common.messages.errors import UserError
from model_eval.accuracy import averages, main_metric
from model_eval.lm_evaluation_harness.groups import read_place
from model_eval.lm_evaluation_harness.harness import task_result
from model_eval.lm_evaluation_harness.method import inputs
from model_eval.lm_evaluation_harness.network import SWITCHES, settle
from tests.model_eval.direct import benchmarks as evaluate
from tests.models import save_model

WORDS = ("sun", "moon", "river", "stone")
CHOICES = {"doc_to_text": "passage", "doc_to_choice": "continuations", "doc_to_target": "answer"}
LAST_WORDS = {"output_type": "loglikelihood", "doc_to_target": "passage", "doc_to_choice": None}
PERPLEXITY = [{"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


def items(count: int = 12) -> list[dict]:
    return [
        {
            "passage": f"{WORDS[i % 4]} and {WORDS[i // 4 % 4]}",
            "continuations": ["are old", "are a part of it", "end"],
            "answer": i * 7 % 3,
        }
        for i in range(count)
    ]


def write_task(folder: Path, name: str = "words", rows: list[dict] | None = None, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = items() if rows is None else rows
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        **CHOICES,
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm")],
        "metadata": {"version": 1.0},
    } | changes
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return folder / f"{name}.yaml"


def write_raw(folder: Path, value: str) -> None:
    """The description of a task, as YAML that is broken in one way or another."""
    path = folder / "words.yaml"
    path.write_text(f"description: {value}\n{path.read_text()}")


def direct(folder: Path, model: str, name: str = "words", **options) -> dict:
    """lm-eval's own reading of the model and the task, with an absolute data file."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    task = yaml.safe_load((folder / f"{name}.yaml").read_text())
    task["dataset_kwargs"] = {"data_files": {"test": str(folder / f"{name}.jsonl")}}
    place = folder / "absolute"
    place.mkdir()
    (place / "absolute.yaml").write_text(yaml.safe_dump(task))
    return simple_evaluate(
        model="hf",
        model_args={"pretrained": model, "add_bos_token": True, "dtype": "float32"},
        tasks=[name],
        device="cpu",
        batch_size=4,
        task_manager=TaskManager(include_path=str(place), include_defaults=False),
        **{f"{kind}_seed": 10 for kind in ("random", "numpy_random", "torch_random", "fewshot_random")},
        **options,
    )["results"][name]


@pytest.mark.parametrize("num_fewshot", [None, 2])
def test_equals_a_direct_call(tmp_path, model, num_fewshot):
    write_task(tmp_path / "task", fewshot_split="test")
    ours = evaluate(model, tasks=str(tmp_path / "task"), num_fewshot=num_fewshot, batch_size=5)["words"]
    theirs = direct(tmp_path / "task", model, num_fewshot=num_fewshot)
    assert ours["metric"] == "acc_norm" and ours["n"] == 12 and ours["num_fewshot"] == (num_fewshot or 0)
    assert ours["value"] == theirs["acc_norm,none"]
    assert ours["metrics"] == {key: theirs[key] for key in ("acc,none", "acc_norm,none")}
    assert ours["stderr"] == pytest.approx(theirs["acc_norm_stderr,none"])


def test_relative_data_from_another_working_folder(tmp_path, model, monkeypatch):
    write_task(tmp_path / "task")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    here = evaluate(model, tasks="../task/words.yaml")
    monkeypatch.chdir(tmp_path)
    assert evaluate(model, tasks="task") == here


def test_limit(tmp_path, model):
    write_task(tmp_path / "all")
    write_task(tmp_path / "first", rows=items(5))
    limited = evaluate(model, tasks=str(tmp_path / "all"), limit=5)
    first = evaluate(model, tasks=str(tmp_path / "first"))["words"]
    assert limited["words"] == first | {"limit": 5, "data": limited["words"]["data"]} and first["n"] == 5


def test_folder_of_two_tasks_and_their_average(tmp_path, model):
    write_task(tmp_path / "task")
    write_task(tmp_path / "task" / "deeper", "others", rows=items(6))
    (tmp_path / "task" / "group.yaml").write_text("group: both\ntask: [words, others]\n")
    results = evaluate(model, tasks=str(tmp_path / "task"))
    assert {name: result["n"] for name, result in results.items()} == {"others": 6, "words": 12}
    assert averages(results)["summary_average"] == sum(result["value"] for result in results.values()) / 2


def test_perplexity_tasks_are_not_averaged_in(tmp_path, model):
    write_task(tmp_path, "text", metric_list=PERPLEXITY, **LAST_WORDS)
    write_task(tmp_path)
    results = evaluate(model, tasks=str(tmp_path), bootstrap_iterations=100)
    assert results["text"]["metric"] == "perplexity"
    assert results["text"]["stderr"] > 0
    assert averages(results)["summary_average"] == results["words"]["value"]
    assert averages({"text": results["text"]})["summary_average"] is None


def test_functions_and_includes_keep_their_place(tmp_path, model):
    write_task(tmp_path / "base")
    (tmp_path / "base" / "words.yaml").rename(tmp_path / "base" / "template")
    code = "def target(row):\n    return row['answer']\n"
    (tmp_path / "stock").mkdir()
    (tmp_path / "stock" / "helpers.py").write_text(code)
    (tmp_path / "stock" / "words.yaml").write_text(
        "include: ../base/template\ntask: shouted\ndoc_to_target: !function helpers.target\n"
    )
    write_task(tmp_path / "plain")
    with pytest.raises(UserError, match=r"^shouted: .*words\.yaml:3: !function helpers\.target runs Python code"):
        evaluate("no-model", tasks=str(tmp_path / "stock"))
    ours = evaluate(model, tasks=str(tmp_path / "stock"), allow_code_execution=True)
    plain = evaluate(model, tasks=str(tmp_path / "plain"))["words"]
    assert ours["shouted"] == plain | {"data": ours["shouted"]["data"]}
    keys = {"data_dir": None, "num_fewshot": None, "contamination_data": None}
    files = inputs(keys | {"tasks": [str(tmp_path / "stock")]})
    names = {kind: [Path(file).name for file in listed] for kind, listed in files.items()}
    assert names == {"tasks": ["words.yaml", "template"], "code": ["helpers.py"], "data": ["words.jsonl"]}


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda folder: (folder / "words.jsonl").unlink(), r"words: no data file .*words\.jsonl"),
        (
            lambda folder: write_task(folder, doc_to_text="pasage"),
            "doc_to_text: pasage is no column; did you mean 'passage'",
        ),
        (lambda folder: write_task(folder, rows=[*items(2), {"passage": 1}]), r"words\.jsonl:3: \w+ is missing"),
        (lambda folder: write_task(folder, rows=[items()[0] | {"answer": None}]), r"words\.jsonl:1: answer is null"),
        (lambda folder: (folder / "words.jsonl").write_text('{"passage": \n'), r"words\.jsonl:1: broken JSON"),
        (lambda folder: (folder / "words.jsonl").write_text(""), r"words\.jsonl holds no rows"),
        (lambda folder: write_task(folder, test_split="dev"), "words: cannot be loaded: .*dev"),
        (lambda folder: write_task(folder, doc_to_text="{{ pasage }}"), "words: cannot be loaded: .*pasage"),
        (lambda folder: (folder / "words.yaml").write_text("task: [\n"), r"cannot read the task file .*words\.yaml"),
        *(
            (lambda folder, value=value: write_raw(folder, value), r"cannot read the task file .*words\.yaml: \S")
            for value in ("2020-13-45", "5" * 5000, "&a [*a]", "[" * 3000, "!!bool x")
        ),
        (lambda folder: (folder / "words.yaml").write_text("- task\n"), r"words\.yaml: expected `key: value`"),
        (lambda folder: (folder / "words.yaml").write_text("include: words.yaml\n"), "includes itself"),
        (lambda folder: (folder / "words.yaml").write_text("group: words\n"), "holds no task YAML"),
        (
            lambda folder: write_task(folder / "again"),
            "words: two task files have this name: .*again",
        ),
        (lambda folder: write_task(folder, unsafe_code=True), "words: runs code .* allow_code_execution=true"),
    ],
)
def test_broken_tasks_stop_before_the_model_is_loaded(tmp_path, break_it, message):
    write_task(tmp_path)
    break_it(tmp_path)
    with pytest.raises(UserError, match=message):
        evaluate("no-model", tasks=str(tmp_path))


def test_unsafe_task_when_asked_for(tmp_path, model):
    write_task(tmp_path, unsafe_code=True)
    assert evaluate(model, tasks=str(tmp_path), allow_code_execution=True)["words"]["n"] == 12


def test_missing_places():
    with pytest.raises(UserError, match=r"cannot read the task file .*nowhere"):
        read_place("nowhere/task")
    with pytest.raises(UserError, match="tasks is empty"):
        evaluate("no-model", tasks=[])


def test_names_of_lm_eval(tmp_path, monkeypatch):
    """Unknown names, a name that a file has too, and data that cannot be had; the scan of all names is cut short."""
    from model_eval.lm_evaluation_harness import harness

    stock = tmp_path / "stock"
    write_task(stock, "boolq")
    write_task(stock, "copa", dataset_path="someone/copa", dataset_kwargs=None)
    written = (stock / "boolq.yaml").read_text()
    (stock / "boolq.yaml").write_text(written.replace("boolq.jsonl", str(stock / "boolq.jsonl")))
    few = harness.TaskManager(include_path=str(stock), include_defaults=False)
    monkeypatch.setattr(harness, "own_tasks", lambda: few)
    with pytest.raises(UserError) as failed:
        evaluate("no-model", tasks=["boolq", "boolqq", "nothing", "copa"])
    first, *others = str(failed.value).split("\n  ")
    assert first.startswith("3 of 4 tasks cannot be evaluated")
    assert others[0] == "boolqq: unknown task; did you mean 'boolq'?"
    assert others[1].startswith("nothing: unknown task;") and "someone/copa" in others[2] and len(others) == 3
    with pytest.raises(UserError, match="boolq: wanted twice"):
        evaluate("no-model", tasks=["boolq", str(stock / "boolq.yaml")])
    with pytest.raises(UserError, match="no-model"):
        evaluate("no-model", tasks="boolq")


def test_metric_of_a_task():
    assert main_metric(["perplexity,none", "acc,none"]) == "acc,none"
    assert main_metric(["acc,none", "acc_norm,none"]) == "acc_norm,none"
    assert main_metric(["exact_match,strict-match", "exact_match,flexible-extract"]) == "exact_match,strict-match"
    assert main_metric(["word_perplexity,none", "bits_per_byte,none"]) == "word_perplexity,none"
    raw = {
        "results": {"t": {"alias": "t", "exact_match,strict": 0.5, "exact_match_stderr,strict": "N/A"}},
        "n-samples": {"t": {"original": 9, "effective": 4}},
        "n-shot": {"t": 5},
        "versions": {"t": 3.0},
        "higher_is_better": {"t": {"exact_match": True}},
    }
    result = task_result(raw, "t")
    assert result["higher_is_better"] is True
    assert (result["metric"], result["filter"], result["stderr"], result["n"]) == ("exact_match", "strict", None, 4)


@pytest.mark.parametrize(
    "local_model, needs_hub, answers, offline",
    [(True, False, None, True), (True, True, True, False), (True, True, False, True), (False, False, True, False)],
)
def test_the_hub_is_asked_only_where_needed(tmp_path, monkeypatch, capsys, local_model, needs_hub, answers, offline):
    from model_eval.lm_evaluation_harness import network

    for switch in SWITCHES:
        monkeypatch.setenv(switch, "1")  # so that the test's end restores what settle may set
        monkeypatch.delenv(switch)
    asked = []
    monkeypatch.setattr(network, "hub_answers", lambda: asked.append(1) or answers)
    settle(str(tmp_path) if local_model else "some/model", needs_hub)
    assert all((os.environ.get(switch) == "1") is offline for switch in SWITCHES)
    assert bool(asked) == (answers is not None)
    assert ("does not answer" in capsys.readouterr().out) == (answers is False)


def test_hub_that_is_not_there(monkeypatch):
    from data_common.hub.network import hub_answers

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub_answers.cache_clear()
    assert not hub_answers()
    hub_answers.cache_clear()
