"""Benchmarks from a folder of files: which file is taken, how its columns become those of lm-eval, what is refused."""

import json
import os
from pathlib import Path

import pytest

from data_common.calls.stage import REPOSITORY
from data_common.messages.errors import UserError
from model_eval.lm_evaluation_harness.converters import SHAPES
from model_eval.lm_evaluation_harness.preflight import plan, prepare, refuse_code, settle_problems
from model_eval.lm_evaluation_harness.stock_tasks import (
    SPECIFICATIONS,
    StockTask,
    convert_file,
    find_file,
    tasks_folder,
)

ROWS = {  # shape after shape, as SHAPES has them: a row, and what it must become
    "hellaswag": [
        ({"activity_label": "Run", "ctx_a": "He", "ctx_b": "runs", "endings": ["a", "b"], "label": 1}, {"label": "1"}),
        ({"query": "Run: He runs", "choices": ["a", "b"], "gold": 1},
         {"query": "Run: He runs", "choices": ["a", "b"], "label": "1"}),
    ],
    "arc_easy": [
        ({"question": "Why?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
         {"answerKey": "2"}),
        ({"query": "Question: Why?\nAnswer:", "choices": ["x", "y"], "gold": 1},
         {"question": "Why?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}),
    ],
    "openbookqa": [
        ({"question_stem": "The sun", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "A "},
         {"question_stem": "The sun", "answerKey": "A"}),
        ({"query": "The sun", "choices": ["x", "y"], "gold": 0}, {"question_stem": "The sun", "answerKey": "A"}),
    ],
    "piqa": [
        ({"goal": "g", "sol1": "s", "sol2": "t", "label": 1}, {"label": 1}),
        ({"query": "Question: g\n", "choices": ["s", "t"], "gold": 1},
         {"goal": "g", "sol1": "s", "sol2": "t", "label": 1}),
    ],
    "winogrande": [
        ({"sentence": "So _ left.", "option1": "Ann", "option2": "Bea", "answer": "2"}, {"answer": "2"}),
        ({"context_options": ["So Ann", "So Bea"], "continuation": "left.", "gold": 1},
         {"sentence": "So _ left.", "option1": "Ann", "option2": "Bea", "answer": "2"}),
    ],
    "lambada_openai": [
        ({"text": "the last word"}, {"text": "the last word"}),
        ({"context": "the last", "continuation": " word"}, {"text": "the last word"}),
    ],
    "mathqa": [
        ({"Problem": "1 + 1 ?", "options": "a ) 2 , b ) 3", "correct": "a"}, {"correct": "a"}),
        ({"query": "Question: 1 + 1 ?\nA. 2\nB. \nAnswer: ", "choices": ["A", "B"], "gold": 0},
         {"Problem": "1 + 1 ?", "answers": ["2", ""], "correct": "a"}),
    ],
    "gsm8k": [({"question": "q", "answer": "so\n#### 3"}, {"answer": "so\n#### 3"})],
    "mbpp": [({"text": "t", "code": "c", "test_list": ["1", "2", "3"], "task_id": 11}, {"task_id": 11})],
}  # fmt: skip
CASES = [(task, row, wanted) for task, cases in ROWS.items() for row, wanted in cases]


def write(path: Path, *rows: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("task, row, wanted", CASES)
def test_rows_become_those_of_the_stock_task(tmp_path, task, row, wanted):
    stock = StockTask(task, str(tmp_path / "data"), 0)
    split = stock.evaluated_split()
    write(tmp_path / "data" / f"{task}_{split}.jsonl", row | {"id": 7})
    content = stock.prepare(tmp_path)
    [line] = Path(content["dataset_kwargs"]["data_files"][split]).read_text().splitlines()
    assert wanted.items() <= json.loads(line).items()
    assert content["include"] == str(tasks_folder() / SPECIFICATIONS[task]) and Path(content["include"]).exists()


@pytest.mark.parametrize("task, row, change, message", [
    ("hellaswag", 0, {"label": 2}, "gold is 2, there are 2 choices"),
    ("hellaswag", 0, {"label": "x"}, "label is 'x', not a number"),
    ("arc_easy", 0, {"answerKey": "C"}, "answerKey is 'C', the labels are 1, 2"),
    ("arc_easy", 1, {"gold": -1}, "gold is -1"),
    ("piqa", 0, {"label": 2}, "label is 2, not 0 or 1"),
    ("piqa", 1, {"choices": ["s"]}, "there are 1 choices, piqa has 2"),
    ("winogrande", 0, {"sentence": "So left."}, "sentence has no _"),
    ("winogrande", 0, {"answer": "3"}, "answer is '3', not 1 or 2"),
    ("lambada_openai", 1, {"continuation": "two words"}, "not one word"),
    ("mathqa", 1, {"choices": ["A", "B", "C"]}, "the query ends in choices"),
    ("gsm8k", 0, {"answer": "3"}, "does not end in"),
    ("mbpp", 0, {"test_list": ["1"]}, "test_list has 1 tests"),
    ("mbpp", 0, {"task_id": "11"}, "task_id is"),
    ("piqa", 0, {"sol1": None}, "sol1 is null"),
])  # fmt: skip
def test_bad_rows_have_their_place(tmp_path, task, row, change, message):
    stock = StockTask(task, str(tmp_path / "data"), 0)
    good = ROWS[task][row][0]
    write(tmp_path / "data" / f"{task}-{stock.evaluated_split()}.jsonl", good, good | change)
    with pytest.raises(UserError, match=rf"\.jsonl:2: .*{message}"):
        stock.prepare(tmp_path)


def test_missing_columns_are_named(tmp_path):
    write(tmp_path / "piqa.jsonl", {"goal": "g", "sol1": "s"})
    with pytest.raises(
        UserError, match=r"piqa\.jsonl:1: missing columns sol2, label \(columns: goal, sol1, sol2, label; or query"
    ):
        StockTask("piqa", str(tmp_path), None).prepare(tmp_path)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_split(tmp_path, content):
    (tmp_path / "piqa.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"piqa\.jsonl holds no rows"):
        StockTask("piqa", str(tmp_path), None).prepare(tmp_path)


def test_problems_of_other_splits_of_mbpp_are_left_out(tmp_path):
    row = ROWS["mbpp"][0][0]
    write(tmp_path / "data" / "mbpp.jsonl", *(row | {"task_id": number} for number in (10, 11, 510, 511)))
    content = StockTask("mbpp", str(tmp_path / "data"), None).prepare(tmp_path)
    lines = Path(content["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
    assert [json.loads(line)["task_id"] for line in lines] == [11, 510]
    write(tmp_path / "data" / "mbpp.jsonl", row | {"task_id": 3})
    with pytest.raises(UserError, match="holds no rows of the split"):
        StockTask("mbpp", str(tmp_path / "data"), None).prepare(tmp_path)


@pytest.mark.parametrize("name, task, split", [
    ("piqa.jsonl", "piqa", "validation"),
    ("piqa/val.jsonl.gz", "piqa", "validation"),
    ("eval_piqa/piqa_valid_100.jsonl", "piqa", "validation"),
    ("HumanEval.jsonl", "humaneval", "test"),
    ("lambada/test.jsonl", "lambada_openai", "test"),
    ("gsm8k-train.jsonl.zst", "gsm8k", "train"),
    ("arc_challenge/test.jsonl", "arc_challenge", "test"),
    ("gpqa_diamond.jsonl", "gpqa_diamond_zeroshot", "train"),
    ("piqa_train/data.jsonl", "piqa", "train"),
    ("train/piqa_val.jsonl", "piqa", "validation"),
])  # fmt: skip
def test_names_of_files(tmp_path, name, task, split):
    for other in (name, "arc_easy_dev.jsonl", "gsm8k_train.txt", "mbpp_plus/notes.md"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).touch()
    stock = StockTask(task, str(tmp_path), None)
    assert find_file(str(tmp_path), task, split, split == stock.evaluated_split()) == str(tmp_path / name)


def test_file_of_another_split_is_not_taken(tmp_path):
    write(tmp_path / "arc_easy_dev.jsonl", ROWS["arc_easy"][0][0])
    with pytest.raises(UserError, match=r"no file of its split test in .*there is arc_easy_dev\.jsonl"):
        StockTask("arc_easy", str(tmp_path), None).data_files()


def test_a_folder_of_another_split_is_not_taken(tmp_path):
    (tmp_path / "piqa_train").mkdir()
    write(tmp_path / "piqa_train/data.jsonl", ROWS["piqa"][0][0])
    with pytest.raises(UserError, match=r"no file of its split validation in .*there is piqa_train/data\.jsonl"):
        StockTask("piqa", str(tmp_path), None).data_files()


def test_of_two_files_the_one_with_the_columns_of_the_hub(tmp_path):
    hub = write(tmp_path / "winogrande_val_hub.jsonl", ROWS["winogrande"][0][0])
    write(tmp_path / "winogrande_val.jsonl", ROWS["winogrande"][1][0])
    assert StockTask("winogrande", str(tmp_path), None).data_files() == [str(hub)]
    write(tmp_path / "winogrande_val_2.jsonl", ROWS["winogrande"][0][0])
    with pytest.raises(UserError, match="could both be its split validation"):
        StockTask("winogrande", str(tmp_path), None).data_files()


def test_examples_in_the_prompt_need_a_file(tmp_path):
    write(tmp_path / "gsm8k_test.jsonl", ROWS["gsm8k"][0][0])
    with pytest.raises(UserError, match="no file of its split train"):
        StockTask("gsm8k", str(tmp_path), None).data_files()
    assert len(StockTask("gsm8k", str(tmp_path), 0).data_files()) == 1
    write(tmp_path / "gsm8k_train.jsonl", ROWS["gsm8k"][0][0])
    assert len(StockTask("gsm8k", str(tmp_path), None).data_files()) == 2


@pytest.mark.parametrize("first", [0, 1])
def test_splits_in_different_columns(tmp_path, first):
    """One task file cannot read both."""
    write(tmp_path / "hellaswag_val.jsonl", ROWS["hellaswag"][first][0])
    write(tmp_path / "hellaswag_train.jsonl", ROWS["hellaswag"][1 - first][0])
    with pytest.raises(UserError, match="its files have different columns"):
        StockTask("hellaswag", str(tmp_path), 5).prepare(tmp_path)


def test_all_problems_at_once_or_skipped(tmp_path, capsys):
    write(tmp_path / "piqa.jsonl", {"goal": "g"})
    write(tmp_path / "sciq_test.jsonl")
    write(tmp_path / "winogrande.jsonl", ROWS["winogrande"][0][0])
    found = plan("piqa,sciq,hellaswag,humaneval,boolq,winogrande", str(tmp_path), None)
    refuse_code(found, allow_code_execution=False)
    assert list(prepare(found, tmp_path)) == ["winogrande"]
    with pytest.raises(UserError) as failed:
        settle_problems(found.problems, "error", 1)
    text = str(failed.value)
    assert text.startswith("5 of 6 tasks cannot be evaluated (on_missing_task=skip leaves them out):\n  ")
    for part in ("piqa: ", "sciq: ", "hellaswag: no file", "humaneval: runs code", "boolq: data_dir is for hellaswag"):
        assert f"\n  {part}" in text
    settle_problems(found.problems, "skip", 1)
    assert capsys.readouterr().out.count("skipped: ") == 5
    with pytest.raises(UserError, match="5 of 5"):
        settle_problems(found.problems, "skip", 0)


def test_every_benchmark_has_a_layout_and_a_task_file():
    assert SHAPES.keys() == SPECIFICATIONS.keys()
    for name in SPECIFICATIONS:
        assert StockTask(name, None, None).config["task"] == name


@pytest.mark.skipif("DELT_DATA" not in os.environ, reason="real benchmarks: set DELT_DATA to their folder")
def test_both_forms_of_winogrande_are_the_same_items(tmp_path):
    folder = Path(os.environ["DELT_DATA"]) / "eval_winogrande"
    items = []
    for name in ("winogrande_val.jsonl.gz", "winogrande_validation_hfcolumns.jsonl.gz"):
        convert_file("winogrande", str(folder / name), tmp_path / "out.jsonl")
        rows = map(json.loads, (tmp_path / "out.jsonl").read_text().split("\n")[:-1])
        items.append([(filled(row, "option1"), filled(row, "option2"), row["answer"]) for row in rows])
    assert len(items[0]) == 1267 and items[0] == items[1]


def filled(row: dict, option: str) -> str:
    """The sentence with an option in it; blanks are made one, as the two forms differ in six double ones."""
    return " ".join(row["sentence"].replace("_", row[option]).split())


def test_the_documented_layout_names_every_column():
    text = (
        (REPOSITORY / "docs" / "evaluation.md")
        .read_text(encoding="utf-8")
        .split("\n| task | split |")[1]
        .split("\n\n")[0]
    )
    rows = {name.strip(): row for row in text.split("\n") for name in row.strip("|").split("|")[0].split(",")}
    for task, shapes in SHAPES.items():
        row = rows[task]
        assert row.split("|")[2].split()[0].strip(",") == StockTask(task, None, None).evaluated_split()
        for shape in shapes:
            assert all(f"`{column}`" in row for column in shape.top_level()), (task, shape.top_level())
