"""A small corpus and a tiny model, and the words that train the one on the other."""

import json
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from tests.models import each_once, save_model

FIXED = ["max_length=16", "batch_size=2", "gradient_accumulation_steps=2", "warmup_steps=2", "logging_steps=1"]
FIXED += ["learning_rate=0.01", "min_learning_rate=0.001", "device=cpu"]
ROWS = [{"id": i, "text": f"row {i}: " + "abc " * (i % 7), "score": i / 4} for i in range(40)]


@pytest.fixture
def run(tmp_path):
    """Paths, and what a run left: `words(*extra)`, `log()`, `weights()`, `manifest()`."""
    model = save_model(tmp_path / "model")
    write_rows(tmp_path / "in.jsonl", ROWS)

    def words(*extra, method="pretrain"):
        return [str(tmp_path / "in.jsonl"), model, str(tmp_path / "out"), method, *each_once(*FIXED, *extra)]

    def log(folder="out"):
        lines = (tmp_path / folder / "train_log.jsonl").read_text().split("\n")[:-1]
        return [{k: v for k, v in json.loads(line).items() if k != "tokens_per_second"} for line in lines]

    return SimpleNamespace(
        folder=tmp_path,
        words=words,
        log=log,
        weights=lambda: load_file(tmp_path / "out/model.safetensors"),
        manifest=lambda: json.loads((tmp_path / "out.manifest.json").read_text()),
    )


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
