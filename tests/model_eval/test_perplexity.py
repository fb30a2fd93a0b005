"""The perplexity method against closed forms and a plain loop over documents."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import AutoModelForCausalLM, MistralConfig, PreTrainedTokenizerFast

from data_common.messages.errors import UserError
from model_eval.items import digest, load_items, value_of
from model_eval.perplexity import method
from model_eval.perplexity.loss import statistics
from tests.model_eval.direct import evaluation
from tests.model_eval.direct import perplexity as evaluate
from tests.models import SHAPE

VOCABULARY = 300  # bytes, merges, BOS and EOS: tokens and bytes differ in number
TEXTS = ["a plain text", "Zweiter Text mit Umlaut: ä, ö, ü, 漢字", "short", "the same words again and again " * 9]


def merging_tokenizer(bos: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(token_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["again and again the text, the same words and the text again", *TEXTS] * 3, trainer)
    starts = {"bos_token": "<s>"} if bos else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", **starts)


def save(folder, bos: bool = True, zero: bool = False) -> str:
    torch.manual_seed(0)
    config = MistralConfig(**SHAPE | {"vocab_size": VOCABULARY}, tie_word_embeddings=False, sliding_window=None)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0) if zero else parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    merging_tokenizer(bos).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("model"))


def write(path, texts) -> str:
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def document_nats(folder: str, bos: bool, max_length: int | None = None) -> tuple[list[float], list[int]]:
    """Nats and predicted tokens of each of TEXTS in float64, one token position after the other."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    nats, tokens = [], []
    for text in TEXTS:
        ids = ([tokenizer.bos_token_id] if bos else []) + tokenizer.encode(text, add_special_tokens=False)
        total = 0.0
        for position in range(1, len(ids)):
            step = max_length - 1 if max_length else len(ids)
            first = (position - 1) // step * step
            with torch.no_grad():
                logits = model(torch.tensor([ids[first:position]])).logits[0, -1]
            total -= torch.log_softmax(logits, 0)[ids[position]].item()
        nats.append(total)
        tokens.append(len(ids) - 1)
    return nats, tokens


def test_uniform_model_has_the_vocabulary_as_perplexity(tmp_path):
    folder = save(tmp_path / "zero", zero=True)
    result = evaluate(folder, data=write(tmp_path / "held.jsonl", TEXTS), dtype="float64", max_length=1024)["held"]
    assert result["perplexity"] == pytest.approx(VOCABULARY, rel=1e-9)
    tokens = sum(len(merging_tokenizer(True).encode(text, add_special_tokens=False)) for text in TEXTS)
    size = sum(len(text.encode()) for text in TEXTS)
    assert (result["tokens"], result["bytes"], result["n"]) == (tokens, size, len(TEXTS))
    assert tokens < size
    assert result["value"] == pytest.approx(tokens * math.log2(VOCABULARY) / size, rel=1e-9)


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-9), ("float32", 1e-5)])
def test_against_a_plain_loop(tmp_path, bos, dtype, tolerance):
    folder = save(tmp_path / "model", bos=bos)
    nats, tokens = document_nats(folder, bos, max_length=16)
    data = write(tmp_path / "held.jsonl", TEXTS)
    result = evaluate(folder, data=data, dtype=dtype, max_length=16, batch_tokens=40)["held"]
    sizes = [len(text.encode()) for text in TEXTS]
    assert result["tokens"] == sum(tokens)
    assert result["loss"] == pytest.approx(sum(nats) / sum(tokens), rel=tolerance)
    assert result["perplexity"] == pytest.approx(math.exp(sum(nats) / sum(tokens)), rel=10 * tolerance)
    assert result["value"] == pytest.approx(sum(nats) / math.log(2) / sum(sizes), rel=tolerance)


def test_whole_documents_when_they_fit(tmp_path, model):
    short = TEXTS[:3]
    result = evaluate(model, data=write(tmp_path / "held.jsonl", short), dtype="float64", max_length=64)["held"]
    nats, tokens = document_nats(model, bos=True)
    assert result["loss"] == pytest.approx(sum(nats[:3]) / sum(tokens[:3]), rel=1e-9)


def test_batches_do_not_change_the_result(tmp_path, model):
    data = write(tmp_path / "held.jsonl", TEXTS * 3)
    results = [
        evaluate(model, data=data, dtype="float64", max_length=20, batch_tokens=budget)["held"]
        for budget in (1, 50, 10**6)
    ]
    for result in results[1:]:
        for name, ends in result.pop("intervals").items():
            assert ends == pytest.approx(results[0]["intervals"][name], rel=1e-12)
        assert {name: result[name] for name in ("metric", "items")} == {
            name: results[0][name] for name in ("metric", "items")
        }
        numbers = ("value", "stderr", "loss", "perplexity", "n", "tokens", "bytes")
        assert [result[name] for name in numbers] == pytest.approx([results[0][name] for name in numbers], rel=1e-12)


def test_standard_error_is_that_of_a_ratio():
    generator = np.random.default_rng(0)
    sizes = generator.integers(50, 500, 2000)
    nats = sizes * 0.7 + generator.normal(0, 20, 2000)
    result = statistics(nats, sizes, sizes)
    ratio = nats.sum() / sizes.sum()
    explicit = math.sqrt(sum((y - ratio * x) ** 2 for y, x in zip(nats, sizes, strict=True)) / 1999 * 2000)
    assert result["stderr"] == pytest.approx(explicit / sizes.sum() / math.log(2), rel=1e-12)
    draws = generator.integers(0, 2000, (1000, 2000))
    bootstrap = (nats[draws].sum(1) / sizes[draws].sum(1)).std() / math.log(2)
    assert result["stderr"] == pytest.approx(bootstrap, rel=0.1)


def test_standard_error_needs_two_documents():
    assert statistics(np.array([3.0]), np.array([2]), np.array([4]))["stderr"] is None


def test_several_files_and_fields(tmp_path, model):
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps({"title": "one", "body": ["two", "three"]}) + "\n")
    (folder / "b.jsonl").write_text(json.dumps({"title": "one", "body": "two\nthree"}) + "\n")
    joined = write(tmp_path / "joined.jsonl", ["one\ntwo\nthree"])
    results = evaluate(model, data=str(folder), text_field=["title", "body"])
    assert list(results) == ["a", "b"]
    assert results["a"] == results["b"] == evaluate(model, data=joined)["joined"]
    both = evaluate(model, data=[str(folder / "a.jsonl"), str(folder / "b.jsonl")], text_field=["title", "body"])
    assert both == results


def test_files_of_one_name(tmp_path, model):
    files = []
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        files.append(write(tmp_path / name / "held.jsonl", TEXTS))
    with pytest.raises(UserError, match="two files of data are called held"):
        evaluate(model, data=files)


def test_rows_without_text(tmp_path, model):
    data = write(tmp_path / "held.jsonl", [TEXTS[0], "", TEXTS[1], " \n"])
    with pytest.raises(UserError, match=r"held\.jsonl:2: no text"):
        evaluate(model, data=data)
    result = evaluate(model, data=data, on_bad_row="drop")["held"]
    clean = evaluate(model, data=write(tmp_path / "clean.jsonl", TEXTS[:2]))["clean"]
    assert result == clean | {"dropped_rows": 2}


def test_only_rows_without_text(tmp_path, model):
    with pytest.raises(UserError, match="no row has any text"):
        evaluate(model, data=write(tmp_path / "held.jsonl", ["", ""]), on_bad_row="drop")


def test_window_longer_than_the_model(tmp_path, model):
    data = write(tmp_path / "held.jsonl", ["word " * 200])
    with pytest.raises(UserError, match="64 positions"):
        evaluate(model, data=data, max_length=1024)


def test_intervals_hold_the_standard_error_of_a_ratio():
    generator = np.random.default_rng(0)
    sizes = generator.integers(50, 500, 2000)
    nats = sizes * 0.7 + generator.normal(0, 20, 2000)
    result = statistics(nats, sizes, sizes, iterations=2000, seed=1)
    low, high = result["intervals"]["bits_per_byte"]
    assert (high - low) / 2 == pytest.approx(1.96 * result["stderr"], rel=0.1)
    assert (low + high) / 2 == pytest.approx(result["value"], rel=1e-3)
    assert result["intervals"]["loss"] == pytest.approx([low * math.log(2), high * math.log(2)])
    assert result["intervals"]["perplexity"] == pytest.approx([math.exp(end) for end in result["intervals"]["loss"]])
    assert statistics(nats, sizes, sizes, iterations=0)["intervals"] is None


def test_every_checkpoint_of_a_run_and_the_curve(tmp_path, model):
    folder = tmp_path / "run"
    shutil.copytree(model, folder)
    for step, name in ((9, "checkpoint-9"), (10, "checkpoint-10")):
        save(folder / name, zero=step == 9)
        (folder / name / "tokenizer.json").unlink()  # a checkpoint need not have one
    (folder / "checkpoint-last").mkdir()
    data = [write(tmp_path / f"{name}.jsonl", TEXTS) for name in ("one", "two")]
    found = evaluation(method, str(folder), tmp_path, data=data, checkpoints=True, dtype="float64")
    curve = found.notes["checkpoints"]
    assert [(name, point["step"]) for name, point in curve.items()] == [("checkpoint-9", 9), ("checkpoint-10", 10)]
    assert curve["checkpoint-9"]["tasks"]["one"]["perplexity"] == pytest.approx(VOCABULARY)
    alone = evaluate(str(folder), data=data, dtype="float64")
    assert found.tasks == alone
    assert (tmp_path / "result.yaml.work" / "curve.png").read_bytes().startswith(b"\x89PNG")
    items = load_items(tmp_path / "result.yaml.work" / "one")
    assert digest(items) == alone["one"]["items"] and value_of(items) == pytest.approx(alone["one"]["value"])


def test_a_run_without_checkpoints(tmp_path, model):
    with pytest.raises(UserError, match="has no checkpoint-\\* folder: train with a save_steps"):
        evaluate(model, data=write(tmp_path / "held.jsonl", TEXTS), checkpoints=True)
