"""The tiny model: loads offline, encodes everything, and comes out the same every time."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_common.embedded import tiny_model
from data_common.messages.errors import UserError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    text = Path(argparse.__file__).read_text(encoding="utf-8")
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": part}) + "\n" for part in text.split("\n\n")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def built(corpus, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model.build(folder, str(corpus))
    return folder


@pytest.fixture(scope="module")
def tokenizer(built):
    return AutoTokenizer.from_pretrained(built)


def test_it_loads_offline_and_computes(built, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(built).eval()
    assert type(model).__name__ == "MistralForCausalLM"
    assert 0.3e6 <= model.num_parameters() <= 0.5e6
    ids = tokenizer("def first(items):", return_tensors="pt")["input_ids"]
    loss = model(input_ids=ids, labels=ids).loss.item()
    assert loss == pytest.approx(torch.log(torch.tensor(2048.0)).item(), abs=0.5)  # random weights: about uniform


def test_configuration_and_tokenizer_agree(built, tokenizer):
    config = json.loads((built / "config.json").read_text())
    assert len(tokenizer) == config["vocab_size"] == 2048
    assert (tokenizer.bos_token, tokenizer.bos_token_id, config["bos_token_id"]) == ("<s>", 0, 0)
    assert (tokenizer.eos_token, tokenizer.eos_token_id, config["eos_token_id"]) == ("</s>", 1, 1)
    assert tokenizer.unk_token is None
    assert tokenizer.model_max_length == config["max_position_embeddings"] == 1024
    assert config["sliding_window"] is None


def test_weights_are_safetensors_only(built):
    assert {path.suffix for path in built.iterdir()} == {".json", ".safetensors"}


def test_bos_is_added_only_where_asked(tokenizer):
    plain = tokenizer("some text", add_special_tokens=False)["input_ids"]
    assert 0 not in plain
    assert tokenizer("some text")["input_ids"] == [0, *plain]


@settings(deadline=None)
@given(st.text())
def test_any_text_survives(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_text_of_the_corpus_is_shorter_in_tokens_than_in_bytes(tokenizer):
    text = Path(argparse.__file__).read_text(encoding="utf-8")
    assert len(tokenizer(text, verbose=False)["input_ids"]) < 0.45 * len(text)


def test_a_second_build_has_the_same_bytes(built, corpus, tmp_path):
    tiny_model.build(tmp_path, str(corpus))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in built.iterdir()
    }


def test_weights_depend_on_the_seed_and_leave_the_random_state_alone():
    state = torch.random.get_rng_state()
    one, same, other = (tiny_model.random_model(seed).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_few_texts_give_few_pieces():
    assert 258 < len(tiny_model.train_tokenizer(["only a few words, only a few"])) < 300


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"txt": "b"}\n', r"corpus\.jsonl:2: .*text"),
        ("\n", "no rows"),
    ],
)
def test_bad_corpora_are_errors(tmp_path, content, message):
    path = tmp_path / "corpus.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        tiny_model.build(tmp_path / "out", str(path))
    assert not (tmp_path / "out").exists()
