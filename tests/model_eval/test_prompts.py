"""What the model is in fact given: token ids counted by hand, one BOS on every path; numbers that are none."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerFast

from data_common.messages.errors import UserError
from model_eval.entry import table
from model_eval.lm_evaluation_harness.language_model import LanguageModel
from tests.model_eval.direct import benchmarks, perplexity
from tests.model_eval.test_lm_evaluation_harness import items, write_task
from tests.models import byte_tokenizer, random_model, save_model

BOS, EOS = 256, 257
TEXTS = ["Grüße aus Köln, 12 Äpfel.", "plain words here and there", "日本語のテキスト", "x " * 60]
ROLLING = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_choice": None,
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "bits_per_byte"}, {"metric": "word_perplexity"}],
}


def ids_of(text: str) -> list[int]:
    return byte_tokenizer()(text, add_special_tokens=False)["input_ids"]


class Recorder(LanguageModel):
    """Keeps the ids of every forward pass, without padding on the right, and of every prompt that is continued."""

    def __init__(self, tokenizer=None, network=None, **options):
        super().__init__(network or random_model("mistral-tied"), tokenizer or byte_tokenizer(), 4, **options)
        self.read: list[list[int]] = []

    def _loglikelihood_tokens(self, requests, *arguments, **options):
        shorten, self._shorten = self._shorten, lambda ids, room: found.append(shorten(ids, room)) or found[-1]
        found: list[list[int]] = []
        try:
            return super()._loglikelihood_tokens(requests, *arguments, **options)
        finally:
            self._shorten = shorten
            self.read += [[*ids, *answer][:-1] for ids, (_, _, answer) in zip(found, requests, strict=True)]

    def _model_generate(self, context, max_length, stop, **options):
        kept = options["attention_mask"].bool()
        self.read += [ids[mask].tolist() for ids, mask in zip(context, kept, strict=True)]
        return super()._model_generate(context, max_length, stop, **options)


def ask(model: LanguageModel, kind: str, *arguments: tuple) -> list:
    return getattr(model, kind)([Instance(kind, {}, one, 0, ("t", n, 1)) for n, one in enumerate(arguments)])


@pytest.mark.parametrize("add_bos_token", [True, False])
def test_one_bos_on_every_path(add_bos_token):
    start = [BOS] if add_bos_token else []
    model = Recorder(add_bos_token=add_bos_token)
    ask(model, "loglikelihood", ("Q: a", " yes"), ("<s>Q: b", " yes"), ("", "yes"), (" ", "yes"), ("<s>", "yes"))
    assert model.read == [
        [*start, *ids_of("Q: a ye")],
        [BOS, *ids_of("Q: b ye")],
        [BOS, *ids_of("ye")],
        [BOS, *ids_of(" ye")],
        [BOS, *ids_of("ye")],
    ]
    model.read.clear()
    ask(model, "loglikelihood_rolling", ("two words",), ("<s>two words",))
    assert model.read == [[BOS, *ids_of("two word")]] * 2
    model.read.clear()
    options = {"until": ["\n"], "max_gen_toks": 2}
    ask(model, "generate_until", ("first of them", options), ("<s>second", options), ("third", options))
    assert sorted(model.read) == sorted(
        [[*start, *ids_of("first of them")], [BOS, *ids_of("second")], [*start, *ids_of("third")]]
    )


@pytest.mark.parametrize("add_bos_token", [True, False])
def test_prompts_that_are_cut_keep_bos(add_bos_token):
    model, text = Recorder(add_bos_token=add_bos_token, max_length=12), "0123456789 abcdefghij"
    ask(model, "loglikelihood", (text, " yes"), ("short", " yes"))
    kept = [BOS, *ids_of(text[-8:])] if add_bos_token else ids_of(text[-9:])
    assert model.read[0] == [*kept, *ids_of(" ye")] and len(model.read[0]) == 12 and model.cut == {0}
    model.read.clear()
    model.begin_task()
    ask(model, "generate_until", ("short", {"max_gen_toks": 4}), (text, {"max_gen_toks": 4}))
    kept = [BOS, *ids_of(text[-7:])] if add_bos_token else ids_of(text[-8:])
    assert kept in model.read and model.cut == {1} and model.answer_tokens is None


def test_windows_of_a_text_hold_bos_once():
    model, text = Recorder(max_length=8), "0123456789abcdefghijk"
    ask(model, "loglikelihood_rolling", (text,))
    assert [ids.count(BOS) for ids in model.read] == [1, 0, 0] and model.read[0] == [BOS, *ids_of(text[:7])]
    assert model.read[1] == ids_of(text[7:15]) and model.cut == set()


def test_rolling_tasks_against_a_hand_loop(tmp_path):
    """Windows as lm-eval makes them: 64 tokens are read, the last window reaches back as far as that."""
    folder = save_model(tmp_path / "model")
    write_task(tmp_path, "roll", rows=[{"text": text} for text in TEXTS], **ROLLING)
    network, bits = random_model("mistral-tied", torch.float32).double(), 0.0
    for text in TEXTS:
        ids, done = [BOS, *ids_of(text)], 1
        while done < len(ids):
            stop = min(done + 64, len(ids))
            window = ids[max(0, stop - 65) : stop]
            logs = network(torch.tensor([window[:-1]])).logits[0].log_softmax(-1)
            bits -= sum(logs[at, window[at]].item() for at in range(done - stop, 0)) / math.log(2)
            done = stop
    expected = bits / sum(len(text.encode()) for text in TEXTS)
    for bos in (True, False):
        found = benchmarks(folder, tasks=str(tmp_path / "roll.yaml"), add_bos_token=bos, dtype="float64")["roll"]
        assert found["metrics"]["bits_per_byte,none"] == pytest.approx(expected, rel=1e-9)
    (tmp_path / "held.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:3]))
    write_task(tmp_path, "short", rows=[{"text": text} for text in TEXTS[:3]], **ROLLING)
    found = benchmarks(folder, tasks=str(tmp_path / "short.yaml"), dtype="float64")["short"]
    held = perplexity(folder, data=str(tmp_path / "held.jsonl"), max_length=64, dtype="float64")["held"]
    assert found["metrics"]["bits_per_byte,none"] == pytest.approx(held["value"], rel=1e-9)


def melting_tokenizer(bos: bool) -> PreTrainedTokenizerFast:
    """`a` and `b` become one token where they meet."""
    vocabulary = {piece: number for number, piece in enumerate(["a", "b", "c", "ab", "<s>", "</s>"])}
    tokenizer = Tokenizer(token_models.BPE(vocabulary, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    names = {"eos_token": "</s>"} | ({"bos_token": "<s>"} if bos else {})
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


@pytest.mark.parametrize("bos, prefix", [(True, 4), (False, 5)])
def test_answers_without_a_token_of_their_own(bos, prefix):
    model = Recorder(melting_tokenizer(bos))
    start = [prefix] if bos else []
    assert model._encode_pair("ca", "b") == ([*start, 2], [3])
    assert model._encode_pair("a", "b") == ([prefix], [3])
    assert model._encode_pair("c", "ab") == ([*start, 2], [3])
    assert model._encode_pair("", "c") == ([prefix], [2])
    with pytest.raises(UserError, match="an answer has no token of its own: '' behind 'ca'"):
        model._encode_pair("ca", "")


def broken_model(folder: Path, value: float, rows: slice = slice(None)) -> str:
    """Its output layer has a value that is no number."""
    from transformers import AutoModelForCausalLM

    save_model(folder, "llama-untied")
    network = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        network.lm_head.weight[rows] = value
    network.save_pretrained(folder)
    return str(folder)


GENERATED = {
    "output_type": "generate_until",
    "doc_to_choice": None,
    "doc_to_target": "{{passage}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 3},
    "metric_list": [{"metric": "exact_match"}],
}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("changes, message", [
    ({}, r"log-likelihoods that are no finite numbers \(36 of 36\)"),
    (ROLLING | {"doc_to_target": "passage"}, r"log-likelihoods that are no finite numbers \(12 of 12\)"),
    (GENERATED, "the model gives logits that are no numbers"),
    (GENERATED | {"generation_kwargs": {"do_sample": True, "temperature": 0.7}}, "logits that are no numbers"),
])  # fmt: skip
def test_a_model_without_numbers_is_refused(tmp_path, value, changes, message):
    write_task(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        benchmarks(broken_model(tmp_path / "model", value), tasks=str(tmp_path / "words.yaml"))


def test_one_broken_logit_is_enough(tmp_path):
    write_task(tmp_path, rows=items(3))
    with pytest.raises(UserError, match=r"no finite numbers \(9 of 9\)"):
        benchmarks(broken_model(tmp_path / "model", math.nan, slice(7, 8)), tasks=str(tmp_path / "words.yaml"))


def test_items_whose_answers_are_all_equal_are_counted(tmp_path, capsys):
    same = {"passage": "x", "continuations": ["same", "same", "same"], "answer": 0}
    rows = [*items(4), same, same | {"continuations": ["one"]}, *items(2)]
    model = save_model(tmp_path / "model")
    write_task(tmp_path / "some", rows=rows)
    assert benchmarks(model, tasks=str(tmp_path / "some"))["words"]["all_equal"] == 1
    assert "warning: words: all answers of 1 of 8 items have the same log-likelihood" in capsys.readouterr().out
    write_task(tmp_path / "none")
    assert "all_equal" not in benchmarks(model, tasks=str(tmp_path / "none"))["words"]
    constant = broken_model(tmp_path / "constant", 0.0)
    rows = [{"passage": f"p {i}", "continuations": ["ab", "cd", "ef"], "answer": i % 3} for i in range(6)]
    write_task(tmp_path / "all", rows=rows)
    assert benchmarks(constant, tasks=str(tmp_path / "all"))["words"]["all_equal"] == 6


def test_every_item_of_a_batch_gets_its_own_answer():
    """Each prompt alone, token by token, against batches of prompts that bring BOS and such that do not."""
    prompts = ["one", "<s>two and more", "three is the longest of them", "<s>four"]
    model = Recorder()
    found = ask(model, "generate_until", *((prompt, {"until": [], "max_gen_toks": 5}) for prompt in prompts))
    for prompt, text in zip(prompts, found, strict=True):
        ids = [BOS, *ids_of(prompt.removeprefix("<s>"))]
        for _ in range(5):
            ids.append(int(model.model(torch.tensor([ids])).logits[0, -1].argmax()))
        answer = list(itertools.takewhile(lambda one: one != EOS, ids[-5:]))
        assert text == byte_tokenizer().decode(answer, skip_special_tokens=True)


@pytest.mark.parametrize("count, told", [(98, True), (99, False), (100, False)])
def test_prompts_that_are_cut_are_counted_and_told_above_one_percent(tmp_path, capsys, count, told):
    """The model reads 64 tokens and predicts one more; of three answers only the longest does not fit: 1 + 61 + 4."""
    rows = [{"passage": "short", "continuations": ["a", "b"], "answer": 0}] * count
    rows += [{"passage": "x" * 61, "continuations": ["a", "bc", "bcd"], "answer": 0}]
    write_task(tmp_path / "task", rows=rows)
    result = benchmarks(save_model(tmp_path / "model"), tasks=str(tmp_path / "task"))["words"]
    assert (result["n"], result["cut_prompts"]) == (count + 1, 1)
    assert ("warning: words: 1 of 99 prompts did not fit" in capsys.readouterr().out) == told


def test_cut_prompts_in_the_table():
    one = {"metric": "acc", "value": 0.5, "stderr": None, "n": 1200}
    assert "cut" not in table({"a": one, "b": one | {"cut_prompts": 0}})
    lines = table({"a": one, "b": one | {"cut_prompts": 1100}}).split("\n")
    assert [line.split()[-1] for line in lines] == ["prompts", "0", "1,100"]
