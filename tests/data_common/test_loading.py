"""Loading: one clear line, and soon, for whatever does not load; the choice of device and dtype."""

import json
import os
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from data_common.messages.errors import UserError
from data_common.models import loading
from data_common.models.tokens import id_count, token_type
from data_common.models.traits import check_positions
from tests.models import CONFIGURATIONS, byte_tokenizer, random_model, save_model


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("./nowhere", "no model folder ./nowhere"),
        ("/a/b/c", "no model folder /a/b/c"),
        ("models/mistyped", "cannot load the tokenizer of models/mistyped (no such folder"),
    ],
)
def test_a_mistyped_path_is_refused_at_once(path, message, monkeypatch):
    monkeypatch.setattr(loading, "hub_answers", lambda: False)
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        loading.load_tokenizer(path)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert time.monotonic() - start < 5


def test_a_folder_that_is_no_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"cannot load the tokenizer of .*: the folder has none .*tokenizer=FOLDER"):
        loading.load_tokenizer(str(tmp_path))


def test_any_failure_of_a_library_is_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise Exception("data did not match any variant\nof untagged enum")

    (tmp_path / "tokenizer.json").touch()
    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(UserError, match=r"cannot load the tokenizer of .*: data did not match any variant$"):
        loading.load_tokenizer(str(tmp_path))


def test_a_vocabulary_with_holes_is_as_large_as_its_highest_id():
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 70_000}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(vocabulary, "<unk>")))
    assert (id_count(tokenizer), token_type(tokenizer)) == (70_001, np.uint32)


def test_weights_and_vocabulary_must_be_there_and_fit(tmp_path):
    folder = save_model(tmp_path / "model")
    tokenizer = loading.load_tokenizer(folder)
    assert loading.has_weights(folder)
    tokenizer.add_special_tokens({"bos_token": "<one-more>"})
    with pytest.raises(UserError, match="259 tokens, 258 embeddings"):
        loading.load_model(folder, tokenizer)
    (tmp_path / "model/model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot load the model"):
        loading.load_model(folder, byte_tokenizer())
    (tmp_path / "model/model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights"):
        loading.load_model(folder, byte_tokenizer())


def test_new_weights_follow_the_seed(tmp_path):
    CONFIGURATIONS["mistral-tied"].save_pretrained(tmp_path)
    one, same, other = (loading.new_model(str(tmp_path), byte_tokenizer(), seed) for seed in (1, 1, 2))
    pairs = list(zip(one.parameters(), same.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_positions():
    check_positions(random_model("gpt2"), 64)
    with pytest.raises(UserError, match="64 positions"):
        check_positions(random_model("gpt2"), 65)


@pytest.mark.parametrize(
    ("device", "native", "asked", "default", "picked"),
    [
        ("cpu", True, "auto", None, torch.float32),
        ("cuda", True, "auto", None, torch.bfloat16),
        ("cuda", False, "auto", None, torch.float32),
        ("cuda", True, "auto", "float32", torch.float32),
        ("cuda", True, "float64", None, torch.float64),
    ],
)
def test_dtype(device, native, asked, default, picked, monkeypatch, capsys):
    loading._say_once.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native)
    assert loading.pick_dtype(asked, torch.device(device), default) is picked
    assert capsys.readouterr().out.startswith("dtype: ")


def test_device():
    assert loading.pick_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="device quantum cannot be used"):
        loading.pick_device("quantum")


def test_weights_of_another_folder_are_none_of_this_model(tmp_path):
    save_model(tmp_path / "model")
    os.rename(tmp_path / "model/model.safetensors", tmp_path / "outside.safetensors")
    weights = {name: "../outside.safetensors" for name in load_file(tmp_path / "outside.safetensors")}
    (tmp_path / "model/model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    (tmp_path / "model/other.safetensors").write_bytes(b"")
    tokenizer = loading.load_tokenizer(str(tmp_path / "model"))
    with pytest.raises(UserError, match=r"names weights of another folder: \.\./outside"):
        loading.load_model(str(tmp_path / "model"), tokenizer)


def test_a_chat_template_whose_name_leads_elsewhere_is_refused(tmp_path):
    save_model(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": "../../outside", "template": "{{ messages }}"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="a chat template whose name is no file name"):
        loading.load_tokenizer(str(tmp_path))


def test_a_tokenizer_that_panics_is_one_line(tmp_path):
    save_model(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text()) | {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="cannot load the tokenizer"):
        loading.load_tokenizer(str(tmp_path))
