"""Numbers that lm-eval gives without a word though something is wrong: labels, answers, borders, caches, settings."""

import json
import os

import pytest
from transformers import GenerationConfig

from data_common.messages.errors import UserError
from tests.model_eval.direct import benchmarks
from tests.model_eval.test_lm_evaluation_harness import items, write_task
from tests.model_eval.test_prompts import GENERATED, Recorder, ask
from tests.models import byte_tokenizer, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


def result(model, folder, rows, keys=None, **changes) -> dict:
    write_task(folder, rows=rows, **changes)
    return benchmarks(model, tasks=str(folder / "words.yaml"), **(keys or {}))["words"]


def labelled(*labels, choices=("1", "2", "3")) -> list[dict]:
    return [{"passage": "x", "continuations": list(choices), "answer": label} for label in labels]


@pytest.mark.parametrize("rows, changes, keys, start", [
    (labelled(0, 1, 2), {}, {}, None),
    (labelled(0, -1, 2), {}, {}, "the label of 1 of 3 items is not one of the choices"),
    (labelled(0, 1, 5, 9), {}, {}, "the label of 2 of 4 items is not one of the choices"),
    (labelled(0, 1, 5, 9), {}, {"limit": 2}, None),
    (labelled("1", "", "3"), {}, {}, "the label of 1 of 3 items is not one of the choices"),
    (labelled([0, 1], [2], [0]), {}, {}, None),
    (labelled([0, 7], [2], [0]), {}, {}, "the label of 1 of 3 items is not one of the choices"),
    (labelled("1", "2", "0"), {"doc_to_target": "{{answer}}"}, {}, "doc_to_target of 2 of 3 items is taken for"),
    (labelled("0", "1", "2", choices="012"), {"doc_to_target": "{{answer}}"}, {}, None),
    ([*labelled(0), *labelled(1, choices=("", "a"))], {}, {}, "1 of 2 items have a choice without a character"),
])  # fmt: skip
def test_labels(tmp_path, model, rows, changes, keys, start):
    notes = result(model, tmp_path, rows, keys, **changes).get("notes", [])
    own = [note for note in notes if not note.startswith("lm-eval")]
    assert len(own) == bool(start) and all(note.startswith(start) for note in own)


@pytest.mark.parametrize("label", [-1, ""])
def test_a_split_without_labels_is_refused(tmp_path, label):
    with pytest.raises(UserError, match="words: none of its 3 labels is one of the choices"):
        result("no-model", tmp_path, labelled(label, label, label))


@pytest.mark.parametrize("texts, start", [
    (("5", "6"), None), (("[1, 2]", "[3]"), "doc_to_target of 2 of 2 items is read as a list of answers, any of"),
    (("5", "[1, 2]", "[x]"), "doc_to_target of 1 of 3 items is read as a list of answers"),
])  # fmt: skip
def test_texts_that_lm_eval_reads_as_lists(tmp_path, model, texts, start):
    rows = [{"passage": text} for text in texts]
    told = result(model, tmp_path, rows, **GENERATED).get("notes", [])
    own = [note for note in told if note.startswith("doc_to_target")]
    assert len(own) == bool(start) and all(note.startswith(start) for note in own)


@pytest.mark.parametrize("passage, choice, delimiter, told", [
    ("Q:", "a", " ", False), ("Q: ", "a", " ", True), ("Q:", " a", " ", True), ("Q:\n", "a", "", False),
    ("Q: ", " a", "", True), ("Q:", "  a", "", True), ("Q:  ", "a", "", True), ("Q:\n", " a", "", False),
])  # fmt: skip
def test_two_blanks_at_the_border(tmp_path, model, passage, choice, delimiter, told):
    rows = [{"passage": "Q:", "continuations": ["a"], "answer": 0}]
    rows += [{"passage": passage, "continuations": ["b", choice], "answer": 0}]
    notes = result(model, tmp_path, rows, target_delimiter=delimiter).get("notes", [])
    assert ("prompt and answer of 1 of 2 items meet with two blanks (doc_to_text, target_delimiter)" in notes) == told


def test_data_that_changed_under_its_old_time_is_read_again(tmp_path, model):
    """The cache of `datasets` knows a file by its path and time, which copies and checkouts may keep."""
    before = result(model, tmp_path, items(6))
    file = tmp_path / "words.jsonl"
    times = os.stat(file)
    turned = [row | {"answer": (row["answer"] + 1) % 3} for row in items(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in turned))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = benchmarks(model, tasks=str(tmp_path / "words.yaml"))["words"]
    (tmp_path / "new").mkdir()
    assert after["items"] == result(model, tmp_path / "new", turned)["items"] != before["items"]


@pytest.mark.parametrize("settings, options, told", [
    ({}, {}, ""), ({"temperature": 0.5, "do_sample": True, "top_p": 0.9}, {}, ""),
    ({"repetition_penalty": 1.3}, {}, "repetition_penalty=1.3"),
    ({"repetition_penalty": 1.3}, {"repetition_penalty": 1.0}, ""),
    ({"top_p": 0.9, "do_sample": True}, {"do_sample": True, "temperature": 0.7}, "top_p=0.9"),
])  # fmt: skip
def test_settings_that_come_with_the_model_are_told(settings, options, told):
    recorder = Recorder()
    recorder.model.generation_config = GenerationConfig(bos_token_id=256, eos_token_id=257, **settings)
    ask(recorder, "generate_until", ("Q: a", {"until": ["\n"], "max_gen_toks": 2, **options}))
    note = f"generation_config.json of the model changes its answers: {told}"
    assert recorder.notes == [note] * bool(told)


def test_a_tokenizer_with_bos_alone_can_generate():
    """Without EOS, PAD and UNK there is nothing to pad with: no token is added for which the model has no row."""
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    recorder = Recorder(tokenizer)
    found = ask(recorder, "generate_until", *((text, {"until": ["a"], "max_gen_toks": 4}) for text in ("x", "longer")))
    assert len(found) == 2 and tokenizer.pad_token_id < 258
