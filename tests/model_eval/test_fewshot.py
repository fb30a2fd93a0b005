"""Few-shot examples, read from the prompts that were in fact asked."""

import json
from pathlib import Path

import pytest
import zstandard

from data_common.messages.errors import UserError
from model_eval.lm_evaluation_harness.harness import SAMPLES
from tests.model_eval.direct import evaluation, harness_method
from tests.model_eval.test_lm_evaluation_harness import items, write_task
from tests.models import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


def rows(count: int = 6) -> list[dict]:
    return [{"passage": f"row {n}", "continuations": ["a", "b"], "answer": n % 2} for n in range(count)]


def samples_of(folder: Path) -> list[dict]:
    """What lm-eval asked and was answered."""
    packed = (folder / "result.yaml.work/words" / SAMPLES).read_bytes()
    text = zstandard.ZstdDecompressor().stream_reader(packed).read().decode()
    return [json.loads(line) for line in text.split("\n")[:-1]]


def asked(model: str, folder: Path, **keys) -> tuple[dict, dict[str, list[str]]]:
    """The result, and the examples of each item, as the prompts have them."""
    result = evaluation(harness_method, model, folder, tasks=str(folder / "words.yaml"), **keys).tasks["words"]
    prompts = [sample["arguments"][0][0] for sample in samples_of(folder)]
    return result, {one.split("\n\n")[-1]: [example[:5] for example in one.split("\n\n")[:-1]] for one in prompts}


SAME_FILE = {"dataset_kwargs": {"data_files": {"test": "words.jsonl", "train": "words.jsonl"}}}
SPLITS = {
    "test split alone": {},
    "test split, named": {"fewshot_split": "test"},
    "validation split alone": {"test_split": None, "validation_split": "test"},
    "validation split, named": {"test_split": None, "validation_split": "test", "fewshot_split": "test"},
    "two splits of the same rows": SAME_FILE | {"training_split": "train"},
    "first rows": {"fewshot_config": {"sampler": "first_n"}},
    "first rows of the test split, named": {"fewshot_config": {"sampler": "first_n", "split": "test"}},
}


@pytest.mark.parametrize("changes", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("num_fewshot", [1, 3, 5])
def test_an_item_is_never_its_own_example(tmp_path, model, changes, num_fewshot):
    write_task(tmp_path, rows=rows(), **changes)
    result, prompts = asked(model, tmp_path, num_fewshot=num_fewshot, seed=3)
    assert len(prompts) == 6 and result["num_fewshot"] == num_fewshot
    for item, examples in prompts.items():
        assert len(set(examples)) == num_fewshot and item not in examples


def test_examples_are_those_of_lm_eval_where_it_draws_no_item(tmp_path, model):
    """The same seed draws the same examples; what lm-eval would have drawn of the item is counted."""
    from random import Random

    write_task(tmp_path, rows=rows())
    result, prompts = asked(model, tmp_path, num_fewshot=2, seed=3)
    generator, exchanged = Random(3), 0
    for number, examples in enumerate(prompts.values()):
        drawn = generator.sample(range(6), 2)
        if number in drawn:
            exchanged += 1
            drawn = generator.sample([other for other in range(6) if other != number], 2)
        assert examples == [f"row {one}" for one in drawn]
    assert result["examples_exchanged"] == exchanged > 0


def test_copies_of_an_item_are_no_examples_either(tmp_path, model):
    """Not even under another number; rows that only begin alike are."""
    copies = [{**row, "id": number} for number, row in enumerate([*rows(3), *rows(3)])]
    write_task(tmp_path, rows=copies)
    result, prompts = asked(model, tmp_path, num_fewshot=4)
    assert result["n"] == 6 and all(item not in examples and len(examples) == 4 for item, examples in prompts.items())
    with pytest.raises(UserError, match="num_fewshot: 5 examples wanted, there are 4 beside the item itself"):
        asked(model, tmp_path, num_fewshot=5)


def test_fixed_examples_that_are_items(tmp_path, model):
    fixed = [*rows(2), {"passage": "row x", "continuations": ["a", "b"], "answer": 1}]
    write_task(tmp_path, rows=rows(), fewshot_config={"samples": fixed, "sampler": "first_n"})
    _, prompts = asked(model, tmp_path, num_fewshot=2)
    assert prompts["row 0"] == ["row 1", "row x"] and prompts["row 5"] == ["row 0", "row 1"]
    with pytest.raises(UserError, match="3 examples wanted, there are 2 beside the item itself"):
        asked(model, tmp_path, num_fewshot=3)


@pytest.mark.parametrize("changes, num_fewshot, message", [
    ({}, 50, "words: num_fewshot: 50 examples wanted, the split has 12, one of them the item itself"),
    ({}, 12, "words: num_fewshot: 12 examples wanted, the split has 12, one of them the item itself"),
    ({"num_fewshot": 50}, None, "words: num_fewshot: 50 examples wanted, the split has 12"),
    (SAME_FILE | {"training_split": "train"}, 13, r"words: num_fewshot: 13 examples wanted, the split has 12$"),
    ({"fewshot_config": {"samples": rows(2)}}, 3, r"words: num_fewshot: 3 examples wanted, the split has 2$"),
])  # fmt: skip
def test_more_examples_than_rows_are_refused_before_the_model_is_loaded(tmp_path, changes, num_fewshot, message):
    write_task(tmp_path, rows=items(12), **changes)
    with pytest.raises(UserError, match=message):
        asked("no-model", tmp_path, num_fewshot=num_fewshot)


def test_what_lm_eval_cannot_ask_is_one_line(tmp_path, model):
    """Examples with several right choices: lm-eval has no text for them."""
    write_task(tmp_path, rows=[row | {"answer": [row["answer"]]} for row in rows()])
    with pytest.raises(UserError, match=r"^words: lm-eval cannot ask it: AssertionError: Answer is not a string"):
        asked(model, tmp_path, num_fewshot=1)


@pytest.mark.parametrize("own, given, used, noted", [
    (0, 2, 0, True), (0, 0, 0, False), (0, None, 0, False), (3, 2, 2, False), (3, None, 3, False), (None, 2, 2, False),
])  # fmt: skip
def test_a_number_that_the_task_does_not_take_is_told(tmp_path, model, capsys, own, given, used, noted):
    write_task(tmp_path, rows=rows(), num_fewshot=own, fewshot_split="test")
    result, prompts = asked(model, tmp_path, num_fewshot=given)
    assert result["num_fewshot"] == used and {len(examples) for examples in prompts.values()} == {used}
    note = "the task fixes num_fewshot: 0, so the 2 of the call are not used"
    assert result.get("notes", []) == [note] * noted and (f"words: {note}" in capsys.readouterr().out) == noted


def test_an_item_of_several_prompts_is_never_its_own_example(tmp_path, model):
    """As in winogrande, where the choices are beginnings of one ending."""
    pairs = [{"label": n % 2, "starts": [f"row {n} a", f"row {n} b"], "end": "end"} for n in range(5)]
    write_task(tmp_path, rows=pairs, doc_to_text="label", doc_to_choice="starts", doc_to_target="end")
    asked(model, tmp_path, num_fewshot=3)
    for sample in samples_of(tmp_path):
        for prompt, _ in sample["arguments"]:
            *examples, item = (one[:5] for one in prompt.split("\n\n"))
            assert len(set(examples)) == 3 and item not in examples
