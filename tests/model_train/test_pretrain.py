"""Training: the order of the file, real tokens only, exact budgets, golden losses, resuming."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import model_train.trainer as trainer
from data_common.calls.cli import main
from data_common.models.tokens import encode
from model_train.entry import STAGE
from tests.models import byte_tokenizer, each_once, save_model

GOLDEN = Path(__file__).with_name("golden_loss.json")
TEXTS = ["the cat sat on the mat", "a", "colourless green ideas sleep furiously", "", "déjà vu " * 6, "end"]


@pytest.fixture
def files(tmp_path):
    rows = [json.dumps({"id": i, "text": text}) for i, text in enumerate(TEXTS)]
    (tmp_path / "in.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path, save_model(tmp_path / "model")


def words(folder, model, *extra):
    fixed = ["max_length=16", "batch_size=2", "gradient_accumulation_steps=2", "warmup_steps=2", "logging_steps=1"]
    paths = [str(folder / "in.jsonl"), str(model), str(folder / "out")]
    fixed += ["learning_rate=0.01", "min_learning_rate=0.001", "device=cpu"]
    return [*paths, "pretrain", *each_once(*fixed, *extra)]


def train(folder, model, *extra):
    return main(STAGE, words(folder, model, *extra))


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "out/train_log.jsonl").read_text().split("\n")[:-1]]


def weights(folder):
    return load_file(folder / "out/model.safetensors")


@pytest.mark.parametrize("packing", ["sequential", "none"])
def test_the_sequence_on_disk_is_the_sequence_the_optimizer_sees(files, monkeypatch, packing):
    folder, model = files
    seen = []
    collate = trainer.collate
    monkeypatch.setattr(trainer, "collate", lambda batch, flat: seen.extend(batch) or collate(batch))
    assert train(folder, model, f"packing={packing}") == 0
    documents = encode([text for text in TEXTS if text], byte_tokenizer())
    if packing == "sequential":
        expected = np.concatenate(documents)[1:]
    else:
        expected = np.concatenate([document[:16][1:] for document in documents])
    trained = [item["input_ids"][item["labels"] != -100] for item in seen]
    np.testing.assert_array_equal(np.concatenate(trained), expected)


@pytest.mark.parametrize("packing", ["sequential", "none"])
def test_first_loss_is_the_mean_over_real_tokens_of_the_first_step(files, packing):
    """Four sequences in two micro-batches of different token counts: the mean is over tokens, not over batches."""
    folder, model = files
    documents = encode([text for text in TEXTS if text], byte_tokenizer())
    stream = np.concatenate(documents)
    sequences = [stream[i * 15 : i * 15 + 16] for i in range(4)] if packing == "sequential" else documents[:4]
    network = AutoModelForCausalLM.from_pretrained(model)
    total, count = 0.0, 0
    for sequence in sequences:
        ids = torch.tensor(np.asarray(sequence[:16], np.int64))[None]
        logits = network(input_ids=ids).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    assert train(folder, model, f"packing={packing}") == 0
    assert losses(folder)[0] == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("packing", ["sequential", "none"])
def test_max_tokens_is_met_exactly(files, packing, monkeypatch):
    folder, model = files
    counts = []
    collate = trainer.collate

    def counting(batch, flat):
        result = collate(batch)
        counts.append(int((result["labels"] != -100).sum()))
        return result

    monkeypatch.setattr(trainer, "collate", counting)
    assert train(folder, model, f"packing={packing}", "max_tokens=333") == 0
    assert sum(counts) == 333
    assert json.loads((folder / "out.manifest.json").read_text())["trained_tokens"] == 333


@pytest.mark.parametrize("keys", [[], ["packing=none"], ["cross_document_attention=false"]])
def test_a_training_that_ends_within_the_order_says_so(files, capsys, keys):
    folder, model = files
    assert train(folder, model, *keys) == 0
    facts = json.loads((folder / "out.manifest.json").read_text())
    assert facts["passes"] == 1 and "passes: the training ends" not in capsys.readouterr().out
    assert train(folder, model, *keys, f"max_tokens={facts['trained_tokens'] * 9 // 4}", "resume=never") == 0
    assert json.loads((folder / "out.manifest.json").read_text())["passes"] == pytest.approx(2.25, abs=0.02)
    assert re.search(r"note: 2\.2\d* passes: the training ends 2\d\.\d% into the order", capsys.readouterr().out)


def test_golden_losses(files):
    """Guards the numbers: a change that should not alter training must reproduce these (delete the file to renew)."""
    folder, model = files
    assert train(folder, model, "max_tokens=900", "from_scratch=true", "seed=1") == 0
    actual = losses(folder)
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(actual) + "\n")
        pytest.fail("golden losses were missing and have been written: look at them and commit them")
    np.testing.assert_allclose(actual, json.loads(GOLDEN.read_text()), rtol=2e-4)
    assert actual[-1] < 0.8 * actual[0]


def test_from_scratch_depends_on_weights_and_is_printed(files, capsys):
    folder, model = files
    assert train(folder, model, "max_tokens=20") == 0
    assert "weights: from" in capsys.readouterr().out
    (folder / "model/model.safetensors").unlink()
    assert train(folder, model, "max_tokens=20", "resume=never") == 0
    assert "weights: random" in capsys.readouterr().out
    assert train(folder, model, "max_tokens=20", "from_scratch=false", "resume=never") == 2
    assert "has no weights" in capsys.readouterr().err


def test_model_and_tokenizer_are_complete_and_a_rerun_does_nothing(files, capsys):
    folder, model = files
    assert train(folder, model, "max_tokens=50") == 0
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in (folder / "out").iterdir()}
    before = (folder / "out/model.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    assert train(folder, model, "max_tokens=50") == 0
    assert "up to date" in capsys.readouterr().out
    assert (folder / "out/model.safetensors").stat().st_mtime_ns == before


def test_run_killed_just_before_its_manifest_can_be_repeated(files):
    folder, model = files
    assert train(folder, model, "max_tokens=50") == 0
    (folder / "out.manifest.json").unlink()
    assert train(folder, model, "max_tokens=60") == 2  # another call must not replace it
    assert train(folder, model, "max_tokens=50") == 0
    assert (folder / "out.manifest.json").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["max_length=100"], "64 positions"),
        (["resume=here"], "here is no checkpoint"),
        (["text_field=body"], "in.jsonl:1: body is missing"),
        (["packing=best-fit"], "sequential | none"),
        (["learning_rat=1"], "did you mean 'learning_rate'?"),
        (["learning_rate=1e30", "warmup_steps=0"], "lower learning_rate"),
        (["learning_rate=1e30", "warmup_steps=0", "logging_steps=500"], "lower learning_rate"),
    ],
)
def test_bad_calls(files, capsys, extra, message):
    folder, model = files
    assert train(folder, model, *extra) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_a_vocabulary_larger_than_the_embedding(files, capsys):
    folder, model = files
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<more>"})
    tokenizer.save_pretrained(model)
    for weights in ("from_scratch=true", "from_scratch=false"):
        assert train(folder, model, weights) == 2
        assert "259 tokens, 258 embeddings" in capsys.readouterr().err


def test_rows_without_text_are_counted_and_nothing_else_is_an_error(files, capsys):
    folder, model = files
    assert train(folder, model, "max_tokens=20") == 0
    assert json.loads((folder / "out.manifest.json").read_text())["rows_without_text"] == 1
    (folder / "in.jsonl").write_text('{"text": " "}\n' * 3)
    assert train(folder, model, "resume=never") == 2
    assert "in.jsonl: no row has any text" in capsys.readouterr().err


def test_documents_that_are_cut_are_counted(files, capsys):
    folder, model = files
    assert train(folder, model, "packing=none") == 0
    cut = sum(len(ids) > 16 for ids in encode([text for text in TEXTS if text], byte_tokenizer()))
    assert f"cut documents {cut}," in capsys.readouterr().out and cut > 1


def test_bad_rows_are_dropped_only_when_asked_for(files, capsys):
    folder, model = files
    with open(folder / "in.jsonl", "a") as file:
        file.write('{"text": 3}\n')
    assert train(folder, model) == 2
    assert "in.jsonl:7: text is a number" in capsys.readouterr().err
    assert train(folder, model, "on_bad_row=drop", "max_rows=3") == 0
    facts = json.loads((folder / "out.manifest.json").read_text())
    assert facts["rows"] == 3 and facts["trained_tokens"] == sum(len(text) + 2 for text in TEXTS[:3]) - 1


def test_documents_that_are_kept_apart_train_all_but_their_first_tokens(files):
    folder, model = files
    assert train(folder, model, "cross_document_attention=false") == 0
    expected = sum(len(ids) - 1 for ids in encode([text for text in TEXTS if text], byte_tokenizer()))
    assert json.loads((folder / "out.manifest.json").read_text())["trained_tokens"] == expected
    assert train(folder, model, "cross_document_attention=false", "max_length=2", "resume=never") == 2


def test_a_foreign_folder_is_never_replaced(files, capsys):
    folder, model = files
    (folder / "out").mkdir()
    (folder / "out/thesis.txt").write_text("years of work")
    assert train(folder, model) == 2
    assert "remove it or choose another" in capsys.readouterr().err
    assert (folder / "out/thesis.txt").exists()


def test_missing_files(files, capsys):
    folder, model = files
    assert train(folder, folder / "nowhere") == 2
    assert "no model folder" in capsys.readouterr().err
    (folder / "in.jsonl").write_text("")
    assert train(folder, model) == 2
    assert "holds no rows" in capsys.readouterr().err
