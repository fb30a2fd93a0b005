"""The chains of docs/recipes from end to end, on a small part of the embedded data."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from scipy.stats import rankdata

from data_common.calls.stage import REPOSITORY
from data_common.embedded import python_stdlib
from tests.models import save_model

FOLDER = REPOSITORY / "docs" / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.glob("kenlm-*.sh"))
QUICK = "kenlm-top-r-folding"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with few rows of the embedded data set."""
    folder = tmp_path_factory.mktemp("recipes")
    python_stdlib.build(folder / "stdlib")
    for name, rows in (("corpus", 120), ("heldout", 20), ("target", 60)):
        lines = (folder / "stdlib" / f"{name}.jsonl").read_text().split("\n")[:rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def rows(path):
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def run(name, folder):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "DELT_PYTHON": sys.executable,
        "INPUT": "corpus.jsonl",
        "TARGET": "target.jsonl",
        "HELDOUT": "heldout.jsonl",
        "OUT": name,
        "PASSES": "0.2",
    }
    command = ["bash", FOLDER / f"{name}.sh"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = yaml.safe_load((folder / name / f"{name}-heldout.yaml").read_text())
    assert "bits_per_byte" in json.dumps(result)
    return folder / name


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == QUICK else [pytest.mark.slow]) for name in RECIPES]
)
def test_recipe(name, small):
    out = run(name, small)
    bits = sorted(row["score"] for row in rows(out / "scored-kenlm.jsonl"))
    assert len(bits) == 120 and bits[-1] < 32  # no perplexities, which are in the hundreds
    kept = bits[:60] if "top-r" in name else bits  # the lowest, which is better
    layers = 3 if "folding" in name else 1
    [ordered] = out.glob("*_ordered-*.jsonl")
    assert [row["score"] for row in rows(ordered)] == [s for fold in range(layers) for s in kept[fold::layers]]


@pytest.mark.slow
def test_the_sum_of_ranks_chooses(small):
    out = run("rank-sum", small)
    scored = rows(out / "rank-sum-scored.jsonl")
    ranks = [rankdata([sign * row[field] for row in scored]) for field, sign in (("kenlm", -1), ("lqs", 1))]
    best = np.argsort(-np.sum(ranks, 0), kind="stable")[:60]
    chosen = rows(out / "rank-sum-chosen.jsonl")
    assert sorted(row["text"] for row in chosen) == sorted(scored[row]["text"] for row in best)


@pytest.mark.slow
def test_the_better_half_comes_last(small):
    out = run("last-half", small)
    scores = [row["score"] for row in rows(out / "last-half-ordered.jsonl")]
    assert len(scores) == 120 and max(scores[:60]) <= min(scores[60:])
    assert scores[60:] != sorted(scores[60:])


@pytest.mark.slow
def test_conversations_from_end_to_end(tmp_path):
    save_model(tmp_path / "start")
    chats = [{"instruction": f"count to {n}", "output": "1 " * n} for n in range(1, 13)]
    for name, part in (("in", chats[:8]), ("held", chats[8:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    config = f"include: {REPOSITORY}/model_train/config/posttrain.yaml\nlearning_rate: 0.01\n"
    (tmp_path / "train.yaml").write_text(config)
    settings = {
        "INPUT": "in.jsonl",
        "HELDOUT": "held.jsonl",
        "MODEL": "start",
        "OUT": "out",
        "TEXT": "plain",
        "MAX_LENGTH": "64",
    }
    environment = os.environ | {"DELT_PYTHON": sys.executable, "TRAIN_CONFIG": "train.yaml"} | settings
    done = subprocess.run(
        ["bash", FOLDER / "chat.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    scores = [row["score"] for row in rows(tmp_path / "out/ordered.jsonl")]
    assert scores == sorted(row["score"] for row in rows(tmp_path / "out/scored.jsonl"))[:4]
    assert "heldout_loss" in json.loads((tmp_path / "out/model.manifest.json").read_text())
    assert yaml.safe_load((tmp_path / "out/model-heldout.yaml").read_text())["tasks"]["held"]["n"] == 4


def test_the_recipe_with_downloads_checks_its_calls(tmp_path):
    environment = os.environ | {"DELT_PYTHON": sys.executable, "R": "0.3", "NPROC": "2"}
    script = FOLDER / "delt-160m.sh"
    command = ["bash", script, "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    heads = [line.split(" (keys")[0] for line in done.stdout.split("\n") if line.startswith("# ") and " -> " in line]
    assert [head.split()[1] for head in heads] == [
        *["dataset", "dataset", "model", "data_scoring", "data_ordering", "data_ordering"],
        *["model_train", "model_eval"] * 2,
    ]
    # what one stage writes the next one reads
    folder = "results/delt-160m"
    scored = f"{folder}/redpajama-cc_scored-lqs.jsonl"
    ordered = f"{folder}/redpajama-cc_scored-lqs_selected-r0.3_ordered-folding-l3.jsonl"
    assert heads[3].endswith(f"{folder}/redpajama-cc.jsonl -> {scored}")
    assert heads[4].endswith(f"{scored} -> {ordered}")
    assert heads[6].endswith(f"{ordered} -> {folder}/mistral-160m -> {folder}/model-delt")
    assert heads[7].endswith(f"{folder}/model-delt -> {folder}/delt.yaml")
    assert list(tmp_path.iterdir()) == []
