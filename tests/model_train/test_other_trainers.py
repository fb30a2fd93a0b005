"""The lines of docs/other-trainers.md keep the order: run here, or by a Python that has the trainer's package."""

import json
import os
import re
import subprocess
import textwrap
from pathlib import Path

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from model_train.entry import STAGE
from tests.models import byte_tokenizer, save_model

PAGE = (REPOSITORY / "docs/other-trainers.md").read_text(encoding="utf-8")
LINES = {
    title: re.search(r"```python\n(.*?)```", text, re.S)[1]
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M)
    if "```python" in text
}
ROWS = [{"text": f"row {number} " + "abc " * (number * 7 % 31)} for number in range(60)]


@pytest.fixture
def stream(tmp_path, monkeypatch):
    """All ids of the corpus, from the simplest of the formats; a working folder that has the rows."""
    monkeypatch.chdir(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tokenize("nanogpt", "nanogpt")
    return np.fromfile("nanogpt/train.bin", np.uint16)


def tokenize(form, out="OUT", *keys):
    assert main(STAGE, ["in.jsonl", "tokenizer", out, "tokenize", f"format={form}", *keys]) == 0


@pytest.mark.parametrize("processes", [1, 2])
def test_nanogpt(stream, processes):
    import torch

    ranks = []
    for rank in range(processes):
        names = {"np": np, "os": os, "torch": torch, "data_dir": "nanogpt", "device": "cpu", "batch_size": 3}
        ranks.append(names | {"block_size": 8, "ddp_world_size": processes, "seed_offset": rank})
        exec(LINES["nanoGPT"], ranks[-1])
    steps = (len(stream) - 1) // (24 * processes)
    found = [names["next_batch"]() for _ in range(2 * steps) for names in ranks]
    size = steps * 24 * processes
    for part, shift in ((0, 0), (1, 1)):  # inputs, targets
        ids = torch.cat([pair[part].flatten() for pair in found]).numpy()
        assert ids.tolist() == np.tile(stream[shift : size + shift], 2).tolist()
    assert len(stream) - 1 - size < 24 * processes


def test_hugging_face(stream):
    from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq, Trainer

    tokenize("parquet", "OUT", "shard_tokens=1000")
    assert len(os.listdir("OUT")) > 2
    names: dict = {}
    exec(LINES["Hugging Face Trainer, TRL"], names)
    assert np.concatenate(names["rows"]["input_ids"]).tolist() == stream.tolist()
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(save_model(Path("model")))
    trainer = Trainer(model, names["arguments"], DataCollatorForSeq2Seq(tokenizer), names["rows"])
    batches = [batch["input_ids"][batch["attention_mask"].bool()].tolist() for batch in trainer.get_train_dataloader()]
    assert [token for batch in batches for token in batch] == stream.tolist()


def run_there(package, script, *words):
    """What a script prints that is run by the Python of the other trainers, without this repository."""
    python = os.environ.get("DELT_TRAINERS_PYTHON")
    if not python:
        pytest.skip(f"DELT_TRAINERS_PYTHON names no Python that has {package} (docs/other-trainers.md#tests)")
    Path("script.py").write_text(script)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if subprocess.run([python, "-c", f"import {package}"], env=environment, capture_output=True).returncode:
        pytest.skip(f"{python} has no {package}")
    done = subprocess.run([python, "script.py", *words], env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


MEGATRON = """
import sys, numpy
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from megatron.core.datasets.utils import Split

class Tokenizer:
    eod, pad, vocab_size, unique_identifiers = 257, 0, 258, {}

stream = numpy.fromfile("nanogpt/train.bin", numpy.uint16)
masks = dict.fromkeys(["reset_position_ids", "reset_attention_mask", "eod_mask_loss", "create_attention_mask"], False)
config = GPTDatasetConfig(random_seed=1, sequence_length=16, blend=(["OUT/corpus"], None), split="100,0,0",
                          tokenizer=Tokenizer(), path_to_cache=sys.argv[1], **masks)
documents = GPTDataset.build_low_level_dataset("OUT/corpus", config)
found = numpy.concatenate([documents[i] for i in range(len(documents))])
print("documents", len(documents), numpy.array_equal(found, stream))
numbers = numpy.arange(len(documents), dtype=numpy.int32)
for samples in (None, 2 * len(stream) // 16 - 1):
    rows = GPTDataset(documents, "OUT/corpus", numbers, samples, Split.train, config)
    ids = numpy.concatenate([rows[i]["tokens"].numpy() for i in range(len(rows))])
    print("samples", len(ids) > len(stream), numpy.array_equal(ids, numpy.tile(stream, 2)[: len(ids)]))
"""


@pytest.mark.slow
def test_megatron_core(stream):
    tokenize("megatron")
    for name, lines, kept in (("shuffled", "", False), ("in order", LINES["Megatron-LM"], True)):
        said = run_there("megatron.core.datasets.gpt_dataset", lines + MEGATRON, name)
        assert [line for line in said if line.startswith(("documents", "samples"))] == [
            f"documents {len(ROWS)} True",
            f"samples False {kept}",
            f"samples True {kept}",
        ]


STREAMING = """
import os, numpy
from streaming import MDSWriter, StreamingDataset
from streaming.base.partition import get_partitions
from streaming.base.util import clean_stale_shared_memory
from torch.utils.data import DataLoader

stream = numpy.fromfile("nanogpt/train.bin", numpy.uint16)
clean_stale_shared_memory()
LINES
tokens = [rows[i]["tokens"] for i in range(len(rows))]
print("samples", len(tokens), len(rows.shards), tokens[0].dtype, numpy.array_equal(numpy.concatenate(tokens), stream))

def collate(batch):
    return [row["tokens"] for row in batch]

for workers in (0, 2, 3):
    clean_stale_shared_memory()
    LINES
    loader = DataLoader(rows, batch_size=4, num_workers=workers, collate_fn=collate)
    found = numpy.concatenate([ids for batch in loader for ids in batch])
    print("loader", numpy.array_equal(found, stream))

for nodes, ranks, workers in ((1, 2, 2), (2, 2, 1), (4, 1, 2)):
    table = get_partitions("relaxed", 96, 1, nodes, ranks, workers, 4)  # nodes, ranks, workers, batches, samples
    steps = numpy.moveaxis(table, (3, 2), (0, 1)).reshape(-1, nodes * ranks * 4)  # workers take turns
    print("table", numpy.array_equal(numpy.sort(steps), numpy.arange(96).reshape(steps.shape)))

with MDSWriter(columns={"tokens": "ndarray:int32"}, out="theirs", size_limit=None) as writer:
    for ids in tokens:
        writer.write({"tokens": ids})
files = {name: open(f"theirs/{name}", "rb").read() for name in os.listdir("theirs")}
print("bytes", files == {name: open(f"whole/{name}", "rb").read() for name in os.listdir("whole")})
"""


@pytest.mark.slow
def test_mosaicml_streaming(stream):
    tokenize("mds", "OUT", "shard_tokens=1000")
    tokenize("mds", "whole")
    lines = LINES["MosaicML Streaming, LLM Foundry"]
    script = re.sub(r"^( *)LINES\n", lambda place: textwrap.indent(lines, place[1]), STREAMING, flags=re.M)
    said = [line for line in run_there("streaming", script) if line.startswith(("samples", "loader", "table", "bytes"))]
    shards = len(os.listdir("OUT")) - 1
    assert shards > 2
    expected = [f"samples {len(ROWS)} {shards} int32 True", *["loader True"] * 3, *["table True"] * 3, "bytes True"]
    assert said == expected
