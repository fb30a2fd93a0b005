"""Models from architecture files: their sizes, what comes from the tokenizer, what is refused."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from data_common.calls.cli import main
from data_common.calls.config import load_yaml
from data_common.calls.stage import REPOSITORY
from model_train.architectures import configuration, learning_rate_of
from model_train.entry import STAGE
from tests.models import byte_tokenizer

SHIPPED = REPOSITORY / "model_train/config/models"
TINY = "model_type: mistral\nhidden_size: 16\nintermediate_size: 24\nnum_hidden_layers: 1\nnum_attention_heads: 2\n"


@pytest.mark.parametrize(
    ("name", "parameters", "rate", "shape"),
    [  # vocabulary 32,000, untied; 4 d d + 3 d f + 2 d a layer, d at the end
        ("160m", 162_417_408, 6e-4, (768, 3072, 12, 12)),
        ("470m", 468_239_360, 3e-4, (1024, 4096, 24, 16)),
        ("1b", 1_004_348_928, 2.5e-4, (1536, 6144, 24, 16)),
        ("1.7b", 1_741_785_088, 2e-4, (2048, 8192, 24, 16)),
    ],
)
def test_shipped_architectures(name, parameters, rate, shape):
    path = SHIPPED / f"{name}.yaml"
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"<{number}>" for number in range(32_000 - len(tokenizer))])
    config = configuration(path, tokenizer)
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.num_attention_heads) == shape
    d, f, layers, _ = shape
    assert parameters == 2 * 32_000 * d + layers * (4 * d * d + 3 * d * f + 2 * d) + d
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert learning_rate_of(str(path)) == rate and load_yaml(path)["max_position_embeddings"] == 1024
    assert (config.bos_token_id, config.eos_token_id) == (256, 257)


def start(run, text, *extra):
    (run.folder / "mine.yaml").write_text(text)
    words = run.words("max_tokens=50", *extra)
    words[1] = str(run.folder / "mine.yaml")
    return main(STAGE, words)


def test_training_starts_from_an_architecture_file_and_a_tokenizer(run, capsys):
    tokenizer = f"tokenizer={run.folder}/model"
    assert start(run, TINY + "learning_rate: 2.0e-3\n", tokenizer, "learning_rate=null", "min_learning_rate=null") == 0
    assert "weights: random, seed 10" in capsys.readouterr().out
    model = AutoModelForCausalLM.from_pretrained(run.folder / "out")
    assert model.config.vocab_size == 258 and model.config.hidden_size == 16 and model.config.use_cache
    assert run.manifest()["learning_rate"] == 2e-3
    assert run.log()[0]["learning_rate"] <= 2e-3
    assert {"tokenizer", "model", "data"} == run.manifest()["inputs"].keys()


@pytest.mark.parametrize(
    ("text", "extra", "message"),
    [
        (TINY, [], "tokenizer=FOLDER or hub id is needed"),
        (TINY, ["tokenizer=MODEL", "learning_rate=null"], "learning_rate is null"),
        (TINY, ["tokenizer=MODEL", "from_scratch=false"], "without weights"),
        (TINY + "hidden_sise: 3\n", ["tokenizer=MODEL"], "did you mean 'hidden_size'?"),
        (TINY + "vocab_size: 100\n", ["tokenizer=MODEL"], "258 tokens, 100 embeddings"),
        (TINY + "max_position_embeddings: 8\n", ["tokenizer=MODEL"], "more than the 8 positions"),
        (TINY.replace("mistral", "misral"), ["tokenizer=MODEL"], "model_type is missing or unknown"),
        ("learning_rate: 1\n", ["tokenizer=MODEL"], "model_type is missing or unknown"),
    ],
)
def test_what_cannot_be_built_is_said(run, capsys, text, extra, message):
    assert start(run, text, *(word.replace("MODEL", f"{run.folder}/model") for word in extra)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
