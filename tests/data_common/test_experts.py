"""Models with experts in float64, which torch's product of groups of rows refuses: the right numbers all the same."""

import json

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, MixtralConfig, Qwen3MoeConfig

from data_common.calls.cli import main
from data_common.models import loading
from data_scoring.entry import STAGE as SCORING
from model_eval.entry import STAGE as EVALUATION
from model_train.architectures import build
from model_train.entry import STAGE as TRAINING
from tests.data_scoring.brute_force import ROWS, brute_force, gamma, one_loss, scorer, store
from tests.models import SHAPE, byte_tokenizer

EXPERTS = {
    "mixtral": MixtralConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2),
    "qwen3_moe": Qwen3MoeConfig(
        **SHAPE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8, decoder_sparse_step=1, head_dim=4
    ),
}
TEXTS = ["The survey of rivers lists nine.", "A short row.", "x = [i for i in range(10)]"]


@pytest.fixture(params=EXPERTS)
def folder(request, tmp_path):
    """A folder with a model with experts, its tokenizer, and the rows beside it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(EXPERTS[request.param]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return tmp_path


def load(folder, dtype):
    return loading.load_model(str(folder / "model"), byte_tokenizer(), dtype=dtype, attn_implementation="sdpa")


def test_every_way_to_a_model_computes_in_float64(folder):
    path, tokenizer, ids = str(folder / "model"), byte_tokenizer(), torch.arange(12)[None]
    wanted = load(folder, torch.float32)(ids).logits
    found = load(folder, torch.float64)(ids).logits
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), wanted, rtol=1e-4, atol=1e-5)
    states = loading.load_backbone(path, tokenizer, dtype=torch.float64)(ids).last_hidden_state
    torch.testing.assert_close(load(folder, torch.float64).base_model(ids).last_hidden_state, states)
    fresh = [loading.new_model(path, tokenizer, 1, dtype=dtype)(ids).logits for dtype in (torch.float64, torch.float32)]
    assert fresh[0].dtype == torch.float64 and fresh[0].isfinite().all() and fresh[1].isfinite().all()
    values = json.loads((folder / "model/config.json").read_text())
    names = ["model_type", *SHAPE, "num_experts_per_tok"]
    (folder / "a.yaml").write_text(yaml.safe_dump({name: values[name] for name in names}))
    built = build(folder / "a.yaml", tokenizer, 1, {"dtype": torch.float64, "attn_implementation": "sdpa"})
    assert built(ids).logits.dtype == torch.float64


def test_float32_keeps_the_faster_product(folder):
    experts = load(folder, torch.float32).get_experts_implementation()
    assert experts == load(folder, torch.float32).base_model.get_experts_implementation() == {"": "grouped_mm"}


def test_lqs_equals_brute_force(folder):
    corpus, target = store(2, ROWS), store(3, 4)
    oracle = AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.float64, attn_implementation="eager", experts_implementation="eager"
    )
    expected, _ = brute_force(oracle, corpus, target, 3, 2, 1, 1)
    actual = gamma(scorer(steps=3), load(folder, torch.float64), corpus, target)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)  # transformers chooses experts in float32


def test_the_stages_take_float64(folder):
    source, model = str(folder / "in.jsonl"), str(folder / "model")
    keys = ["max_length=40", "dtype=float64"]
    assert main(SCORING, [source, str(folder / "ppl.jsonl"), "perplexity", f"model={model}", "metric=nll", *keys]) == 0
    found = [json.loads(line)["score"] for line in (folder / "ppl.jsonl").read_text().split("\n")[:-1]]
    tokenizer, oracle = byte_tokenizer(), load(folder, torch.float32)
    ids = [[256, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in TEXTS]
    np.testing.assert_allclose(found, [one_loss(oracle, np.array(one)).item() for one in ids], rtol=1e-5)
    words = ["pretrain", *keys, "warmup_steps=1", "batch_size=1", "gradient_accumulation_steps=1", "report_to=none"]
    assert main(TRAINING, [source, model, str(folder / "out"), *words]) == 0
    trained = str(folder / "out")
    assert main(EVALUATION, [trained, str(folder / "r.yaml"), "perplexity", f"data={source}", *keys]) == 0
    assert yaml.safe_load((folder / "r.yaml").read_text())["tasks"]["in"]["value"] > 0
