"""The data scorer: predictions against plain transformers, fitting, folders, resuming, what the user can do wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import rankdata
from transformers import (
    AutoModel,
    AutoTokenizer,
    ConvBertConfig,
    RobertaConfig,
    T5Config,
    T5Model,
    TrainerCallback,
)

from data_common.messages.errors import UserError
from data_common.models import loading
from data_common.models.samples import Samples
from data_common.models.tokens import TokenStore, encode
from data_common.models.tokens import tokenize as tokenize_texts
from data_common.models.traits import check_positions
from data_common.parallel import distributed
from data_scoring.engines.influence import checks, data_scorer, fitting
from tests.models import byte_tokenizer, encoder_tokenizer, save_encoder, save_model

CPU = torch.device("cpu")
CAUSAL = ["mistral-tied", "gpt2", "llama-untied"]
SHAPE = {
    "vocab_size": 259,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


def tokenize(corpus, tokenizer):
    """One sample a text."""
    store, rows = tokenize_texts(corpus, tokenizer), np.arange(len(corpus))
    return Samples(store.tokens, np.stack([store.starts, store.lengths, rows, 0 * rows, 0 * rows], axis=1))


def save_base(folder, name):
    return save_encoder(folder) if name == "bert" else save_model(folder, name)


def texts(count, seed=0):
    """Random words over four letters, each text with letter frequencies of its own; score: the share of "a"."""
    generator = np.random.default_rng(seed)
    drawn = [
        "".join(generator.choice(list("abcd"), generator.integers(5, 40), p=generator.dirichlet(np.ones(4))))
        for _ in range(count)
    ]
    return drawn, np.array([text.count("a") / len(text) for text in drawn])


def fit(scorer, store, scores, folder, **keys):
    defaults = {"epochs": 3, "learning_rate": 5e-3, "batch_size": 16, "seed": 0, "device": CPU}
    folder.mkdir(exist_ok=True)
    return fitting.fit(scorer, store, scores, folder, **defaults | {"precision": torch.float32} | keys)


def same_weights(one, other, **tolerance):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, **tolerance) if tolerance else torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", [*CAUSAL, "bert"])
def test_predictions_are_those_of_one_text_at_a_time(tmp_path, name):
    """Any batch size, padding and mask included, against transformers without batches."""
    base = save_base(tmp_path / "base", name)
    scorer, tokenizer = data_scorer.new(base, 64, seed=3)
    scorer.head.bias.data.fill_(0.7)
    assert scorer.causal == (name != "bert")
    corpus, _ = texts(30)
    store = tokenize(corpus, tokenizer)
    plain = AutoModel.from_pretrained(base).eval()
    expected = []
    for text in corpus:
        ids = torch.tensor(encode([text], tokenizer))
        with torch.no_grad():
            mean = plain(input_ids=ids).last_hidden_state[0].mean(0)
            expected.append(float(mean @ scorer.head.weight[0]) + 0.7)
    for batch_tokens in (1, 100, 100_000):
        predicted = data_scorer.predict(scorer, store, batch_tokens)
        assert predicted.dtype == np.float32
        np.testing.assert_allclose(predicted, expected, atol=1e-5)
    some = np.array([4, 29, 4])
    np.testing.assert_allclose(data_scorer.predict(scorer, store.take(some), 64), predicted[some], atol=1e-5)


@pytest.mark.parametrize("name", ["mistral-tied", "bert"])
def test_training_in_groups_of_similar_length_gives_the_same_loss_and_gradient(tmp_path, name):
    scorer, tokenizer = data_scorer.new(save_base(tmp_path / "base", name), 64, seed=0)
    scorer.backbone.config._attn_implementation = "eager"
    for module in scorer.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    corpus, scores = texts(7)
    batch = fitting.collate(
        [(np.array(ids), score) for ids, score in zip(encode(corpus, tokenizer), scores, strict=True)]
    )
    batch["labels"] = batch["labels"].float()
    gradients = []
    for mode in (True, False):
        scorer.train(mode).zero_grad()
        output = scorer(**batch)
        np.testing.assert_allclose(output["loss"].item(), ((output["logits"] - batch["labels"]) ** 2).mean().item())
        output["loss"].backward()
        gradients.append([parameter.grad for parameter in scorer.parameters() if parameter.grad is not None])
    for grouped, whole in zip(*gradients, strict=True):
        torch.testing.assert_close(grouped, whole, atol=1e-6, rtol=1e-4)


def test_causality_is_seen_whatever_the_mode_of_the_model(tmp_path):
    backbone = loading.load_backbone(save_base(tmp_path / "gpt2", "gpt2"), byte_tokenizer()).train()  # with dropout
    assert data_scorer.probe(backbone, 64) == (True, True, 16) and backbone.training


def test_documents_of_encoders_have_cls_and_sep():
    assert encode(["a", ""], encoder_tokenizer()) == [[257, encoder_tokenizer()("a")["input_ids"][0], 258], [257, 258]]


@pytest.mark.parametrize("name", ["mistral-tied", "bert"])
def test_fitting_learns_and_reports_what_it_has_learnt(tmp_path, name):
    corpus, scores = texts(300)
    scorer, tokenizer = data_scorer.new(save_base(tmp_path / "base", name), 64, seed=0)
    store = tokenize(corpus, tokenizer)
    scores = 40 + 3 * scores
    result = fit(scorer, store, scores, tmp_path / "fit", epochs=5)
    assert result["spearman"] > 0.8
    assert (result["train_documents"], result["validation_documents"]) == (270, 30)
    assert result == json.loads((tmp_path / "fit/fit.json").read_text())
    np.testing.assert_allclose([result["mean"], result["standard_deviation"]], [scores.mean(), scores.std()])

    with open(tmp_path / "fit/validation.jsonl") as file:
        rows = [json.loads(line) for line in file]
    documents, annotated, predicted = (np.array([row[key] for row in rows]) for key in rows[0])
    np.testing.assert_allclose(annotated, ((scores - scores.mean()) / scores.std()).clip(-3, 3)[documents])
    np.testing.assert_allclose(predicted, data_scorer.predict(scorer, store, 500)[documents], atol=1e-5)
    ranks = np.corrcoef(rankdata(predicted), rankdata(annotated))[0, 1]
    np.testing.assert_allclose(result["spearman"], ranks, rtol=1e-9)
    np.testing.assert_allclose(result["pearson"], np.corrcoef(predicted, annotated)[0, 1], rtol=1e-6)
    best, wanted = ({*sorted(range(30), key=lambda i, v=v: -v[i])[:9]} for v in (predicted, annotated))
    assert result["top_30_overlap"] == len(best & wanted) / 9

    assert len(result["epochs"]) == 5
    spearmans = [epoch["spearman"] for epoch in result["epochs"]]
    assert spearmans[result["best_epoch"] - 1] == max(spearmans) == pytest.approx(result["spearman"])
    loss = result["epochs"][result["best_epoch"] - 1]["validation_loss"]
    assert loss == pytest.approx(((predicted - annotated) ** 2).mean(), rel=1e-4)
    made = {"fit.json", "fit.png", "validation.jsonl", "checkpoints"}
    assert {path.name for path in (tmp_path / "fit").iterdir()} == made
    assert (tmp_path / "fit/fit.png").read_bytes().startswith(b"\x89PNG")


def test_agreement_of_literals():
    literal = fitting.agreement(np.array([1.0, 2, 3, 5, 4]), np.array([1.0, 2, 3, 4, 5]))
    assert literal == {"spearman": pytest.approx(0.9), "pearson": pytest.approx(0.9), "top_30_overlap": 0.0}
    constant = fitting.agreement(np.ones(10), np.arange(10.0))
    assert constant == {"spearman": 0.0, "pearson": 0.0, "top_30_overlap": 0.0}


def test_scores_far_out_are_clipped_and_the_split_follows_the_seed():
    labels, mean, deviation = fitting.normalise(np.array([0.0] * 99 + [100.0]))
    assert (mean, labels.max()) == (1.0, 3.0)
    np.testing.assert_allclose([labels.min(), deviation], [-1 / deviation, np.sqrt(99)])
    index = np.zeros((100, 5), np.int64)
    index[:, 1], index[:, 2] = np.arange(100) % 7, np.arange(100) // 2  # two samples a row
    store = Samples(np.zeros(0), index)
    one, same, other = (fitting.split(store, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(map(np.array_equal, one, same)) and set(one[1]) != set(other[1])
    assert sorted(np.concatenate(one)) == list(range(100)) and len(one[1]) == 10
    assert not set(store.rows[one[0]]) & set(store.rows[one[1]])
    assert (np.diff(store.lengths[one[1]]) <= 0).all()


def test_saved_and_loaded_scorers_predict_the_same_bits(tmp_path):
    """After bfloat16 autocast too, which must not stay on the scorer."""
    corpus, scores = texts(60)
    for name in ("gpt2", "bert"):
        scorer, tokenizer = data_scorer.new(save_base(tmp_path / name, name), 64, seed=0)
        store = tokenize(corpus, tokenizer)
        facts = fit(scorer, store, scores, tmp_path / f"fit-{name}", epochs=1, precision=torch.bfloat16)
        scorer.save(tmp_path / "scorer", tokenizer, {"method": "lqs", **facts})
        loaded, its_tokenizer, its_facts = data_scorer.load(str(tmp_path / "scorer"))
        assert its_facts == {"method": "lqs", **facts}
        same_store = tokenize(corpus, its_tokenizer)
        predicted = data_scorer.predict(scorer, store, 200)
        np.testing.assert_array_equal(data_scorer.predict(loaded, same_store, 200), predicted)
        rough = data_scorer.predict(loaded, store, 200, autocast=torch.bfloat16)
        assert 0 < np.abs(rough - predicted).max() < 0.1
        suffixes = {path.suffix for path in (tmp_path / "scorer").iterdir()}
        assert suffixes == {".json", ".safetensors"}
        AutoModel.from_pretrained(tmp_path / "scorer")
        AutoTokenizer.from_pretrained(tmp_path / "scorer")


class Kill(TrainerCallback):
    def __init__(self, epoch):
        self.left = epoch

    def on_save(self, *_, **__):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, monkeypatch, killed_after):
    base = save_base(tmp_path / "base", "gpt2")  # dropout: the state of the random numbers matters
    corpus, scores = texts(60)
    store = tokenize(corpus, byte_tokenizer())
    whole, _ = data_scorer.new(base, 64, seed=0)
    expected = fit(whole, store, scores, tmp_path / "whole")

    trainer = fitting.Trainer

    def killed(*arguments, callbacks, **rest):
        return trainer(*arguments, callbacks=[*callbacks, Kill(killed_after)], **rest)

    monkeypatch.setattr(fitting, "Trainer", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(data_scorer.new(base, 64, seed=0)[0], store, scores, tmp_path / "killed")
    steps = 54 // 16
    assert (tmp_path / f"killed/checkpoints/checkpoint-{killed_after * steps}").is_dir()
    half_written = tmp_path / "killed/checkpoints/checkpoint-999"
    half_written.mkdir()
    (half_written / "model.safetensors").write_bytes(b"half")

    seen = []
    monkeypatch.setattr(fitting, "Trainer", trainer)
    collate = fitting.collate
    monkeypatch.setattr(fitting, "collate", lambda samples: seen.append(len(samples)) or collate(samples))
    resumed, _ = data_scorer.new(base, 64, seed=0)
    assert fit(resumed, store, scores, tmp_path / "killed") == expected
    assert same_weights(resumed, whole)
    assert seen.count(16) == (3 - killed_after) * steps  # validation batches hold 6


def test_a_batch_that_processes_cannot_share_is_an_error(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 3)
    assert checks.shared_batch(9) == 3
    with pytest.raises(UserError, match="scorer_batch_size=8 cannot be shared out equally to 3 processes"):
        checks.shared_batch(8)


SHARED = """
import sys
from pathlib import Path
from tests.data_scoring.test_data_scorer import *
folder = Path(sys.argv[1])
fitting.distributed.wait()
corpus, scores = texts(60)
scorer, tokenizer = data_scorer.new(str(folder / "base"), 64, seed=0)
result = fit(scorer, tokenize(corpus, tokenizer), scores, folder / "shared")
if fitting.distributed.is_main():
    scorer.save(folder / "scorer", tokenizer, result)
"""


@pytest.mark.slow  # test_annotate_fit_score.py has two processes go through all steps
def test_two_processes_fit_as_one(tmp_path):
    base = save_base(tmp_path / "base", "mistral-tied")
    corpus, scores = texts(60)
    alone, tokenizer = data_scorer.new(base, 64, seed=0)
    expected = fit(alone, tokenize(corpus, tokenizer), scores, tmp_path / "alone")
    (tmp_path / "shared.py").write_text(SHARED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [*torchrun, str(tmp_path / "shared.py"), str(tmp_path)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    shared, _, facts = data_scorer.load(str(tmp_path / "scorer"))
    assert facts["best_epoch"] == expected["best_epoch"]
    assert facts["spearman"] == pytest.approx(expected["spearman"], abs=1e-3)
    assert same_weights(shared, alone, atol=1e-4)


def test_a_rate_that_is_too_high_ends_with_advice(tmp_path):
    corpus, scores = texts(40)
    scorer, tokenizer = data_scorer.new(save_base(tmp_path / "base", "gpt2"), 64, seed=0)
    scorer.head.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="at step 2: lower scorer_learning_rate"):
        fit(scorer, tokenize(corpus, tokenizer), scores, tmp_path / "fit")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.full(30, 2.5), "all annotated scores are 2.5"),
        (np.array([np.nan, np.inf] + [1.0] * 28), "2 of the annotated scores are no finite numbers"),
        (np.arange(19.0), "proxy_size: 19 rows are too few to fit a data scorer"),
    ],
)
def test_scores_that_cannot_be_fitted(tmp_path, scores, message):
    scorer, tokenizer = data_scorer.new(save_base(tmp_path / "base", "gpt2"), 64, seed=0)
    with pytest.raises(UserError, match=message):
        fit(scorer, tokenize(texts(len(scores))[0], tokenizer), scores, tmp_path / "fit")
    assert not list((tmp_path / "fit").iterdir())


def one_line(call, *words):
    with pytest.raises(UserError) as error:
        call(*words)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_base_that_is_none(tmp_path, monkeypatch):
    base = save_base(tmp_path / "base", "bert")
    assert one_line(data_scorer.new, base, 65, 0) == "scorer_max_length=65 is more than the 64 positions of the model"
    (tmp_path / "base/model.safetensors").unlink()
    assert "has no weights" in one_line(data_scorer.new, base, 64, 0)
    save_file({"unknown": torch.zeros(1)}, tmp_path / "base/model.safetensors", {"format": "pt"})
    assert "do not fit its configuration" in one_line(data_scorer.new, base, 64, 0)
    shape = {"d_model": 16, "d_ff": 24, "num_layers": 1, "num_heads": 2, "d_kv": 8, "vocab_size": 259}
    T5Model(T5Config(**shape)).save_pretrained(tmp_path / "base")
    assert "is an encoder-decoder" in one_line(data_scorer.new, base, 64, 0)
    assert "no model folder ./nowhere" in one_line(data_scorer.new, "./nowhere", 64, 0)


def test_positions_of_roberta_begin_behind_that_of_padding():
    backbone = AutoModel.from_config(RobertaConfig(**SHAPE, pad_token_id=1))
    check_positions(backbone, 62)
    backbone(input_ids=torch.full((1, 62), 5))
    with pytest.raises(UserError, match="62 positions"):
        check_positions(backbone, 63)
    with pytest.raises((IndexError, RuntimeError)):
        backbone(input_ids=torch.full((1, 63), 5))


def test_a_scorer_that_is_none(tmp_path, monkeypatch):
    base = save_base(tmp_path / "base", "bert")
    assert one_line(data_scorer.load, base) == f"{base} is no data scorer: data_scorer.json is missing"
    scorer, tokenizer = data_scorer.new(base, 64, seed=0)
    folder = tmp_path / "scorer"
    breaks = {
        "is no data scorer: head.safetensors is missing": lambda: (folder / "head.safetensors").unlink(),
        "cannot load the model": lambda: (folder / "model.safetensors").unlink(),
        "cannot load the head.safetensors": lambda: (folder / "head.safetensors").write_bytes(b"no weights"),
        "cannot load the data_scorer.json": lambda: (folder / "data_scorer.json").write_text("{"),
    }
    for message, damage in breaks.items():
        scorer.save(folder, tokenizer, {})
        damage()
        assert message in one_line(data_scorer.load, str(folder))
    monkeypatch.setattr(loading, "hub_answers", lambda: False)
    assert "cannot load the data scorer of some/scorer" in one_line(data_scorer.load, "some/scorer")


def test_a_scorer_of_the_hub_is_taken_from_the_cache(tmp_path, monkeypatch):
    scorer, tokenizer = data_scorer.new(save_base(tmp_path / "base", "gpt2"), 64, seed=5)
    cache = tmp_path / "cache/models--some--scorer"
    scorer.save(tmp_path / "scorer", tokenizer, {"method": "pds"})
    shutil.copytree(tmp_path / "scorer", cache / "snapshots/0000000000000000000000000000000000000000")
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text("0" * 40)
    monkeypatch.setattr(loading, "hub_answers", lambda: False)
    for function in ("hf_hub_download", "snapshot_download"):
        original = getattr(data_scorer, function)
        monkeypatch.setattr(
            data_scorer, function, lambda *a, original=original, **k: original(*a, cache_dir=tmp_path / "cache", **k)
        )
    loaded, _, facts = data_scorer.load("some/scorer")
    assert facts == {"method": "pds"} and same_weights(loaded, scorer)


def test_a_backbone_that_sees_padding_reads_rows_of_one_length_together():
    """ConvBERT's convolutions look at what stands behind a text, masked or not."""
    torch.manual_seed(0)
    keys = {name: SHAPE[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")}
    config = ConvBertConfig(**keys, num_attention_heads=4, embedding_size=16, head_ratio=1, max_position_embeddings=64)
    backbone = AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    scorer = data_scorer.DataScorer(backbone.eval())
    assert not scorer.mixed_lengths and not scorer.causal
    ids = np.random.default_rng(0).integers(0, 258, 67)
    lengths = np.array([5, 9, 30, 9, 14])
    documents = TokenStore(ids, np.cumsum(lengths) - lengths, lengths)
    alone = [data_scorer.predict(scorer, documents.take(np.array([row])), 1000)[0] for row in range(5)]
    np.testing.assert_allclose(data_scorer.predict(scorer, documents, 1000), alone, rtol=1e-5)
    scorer.train()  # without dropout, so that the groups of training can be compared
    for module in scorer.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    grouped = scorer(**data_scorer.to_batch(list(documents)))["logits"]
    np.testing.assert_allclose(grouped.detach().numpy(), alone, rtol=1e-4)
