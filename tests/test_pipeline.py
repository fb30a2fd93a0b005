"""pipeline.sh from end to end, on a small part of the embedded data."""

import json
import os
import subprocess
import sys

import pytest

from data_common.calls.stage import REPOSITORY
from data_common.embedded import python_stdlib


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder as the embedded data set makes it, with fewer rows in the corpus."""
    folder = tmp_path_factory.mktemp("pipeline")
    python_stdlib.build(folder / "stdlib")
    for name, rows in (("corpus", 120), ("heldout", 20), ("target", 10)):
        lines = (folder / "stdlib" / f"{name}.jsonl").read_text().split("\n")[:rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def pipeline(folder):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "DELT_PYTHON": sys.executable,
        "INPUT": "corpus.jsonl",
        "TARGET": "target.jsonl",
        "HELDOUT": "heldout.jsonl",
        "TASKS": "stdlib/task",
        "SCORING_KEYS": "proxy_size=30 steps=4 interval=2 scorer_epochs=1",
        "LIMIT": "12",
        "OUT": "out",
        "ANNOTATOR_TOKENS": "2000",
        "PASSES": "0.4",
    }
    return subprocess.run(
        ["bash", REPOSITORY / "pipeline.sh"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_end_to_end_and_again(small):
    done = pipeline(small)
    assert done.returncode == 0, done.stderr[-3000:]
    out = small / "out"
    name = "corpus_scored-lqs_selected-r0.5_ordered-folding-l3.jsonl"
    rows = [json.loads(line) for line in (out / "data" / name).read_text().split("\n")[:-1]]
    assert len(rows) == 60
    scored = [json.loads(line) for line in (out / "data/corpus_scored-lqs.jsonl").read_text().split("\n")[:-1]]
    assert (out / "data/corpus_scored-lqs.jsonl.work/fit/scorer/data_scorer.json").exists()
    best = sorted((row["score"] for row in scored), reverse=True)[:60]
    assert [row["score"] for row in rows] == [best[::-1][i] for fold in range(3) for i in range(fold, 60, 3)]
    delt, conventional, random_half = (
        json.loads((out / "models" / f"{arm}.manifest.json").read_text())
        for arm in ("DELT", "conventional", "random-half")
    )
    drawn = [json.loads(line) for line in (out / "data/corpus_random-r0.5.jsonl").read_text().split("\n")[:-1]]
    assert len(drawn) == 60 and 10 < sum(row in rows for row in drawn) < 50
    assert delt["passes"] == pytest.approx(0.4, abs=0.01)
    assert delt["trained_tokens"] == conventional["trained_tokens"] == random_half["trained_tokens"] > 4000
    report = (out / "report.md").read_text()
    assert report in done.stdout
    assert "| heldout | bits_per_byte (lower is better) |" in report and "| next_passage |" in report
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")

    again = pipeline(small)
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stdout.count("is up to date") == 16, again.stdout
    assert (out / "report.md").read_text() == report
