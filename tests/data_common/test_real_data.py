"""The engine on real corpora, whose texts hold U+2028, form feeds and other traps."""

import gzip
import json
import os
from pathlib import Path

import pytest

from data_common.calls.cli import main
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from tests.models import save_model

DATA = os.environ.get("DELT_DATA")
FILES = [
    "c4_en/c4_en_train_head_1000.jsonl.gz",
    "openwebtext_1k/openwebtext_1000.jsonl.gz",
    "nltk_webtext/webtext_chunks.jsonl.gz",
]

pytestmark = pytest.mark.skipif(not DATA, reason="real corpora: set DELT_DATA to the folder that holds them")


@pytest.mark.parametrize("name", FILES)
def test_lines_of_real_corpora_survive(name, tmp_path):
    lines = gzip.decompress(Path(DATA, name).read_bytes()).split(b"\n")[:-1]
    assert main(ORDERING, [str(Path(DATA, name)), str(tmp_path / "out.jsonl"), "shuffle"]) == 0
    shuffled = (tmp_path / "out.jsonl").read_bytes().split(b"\n")[:-1]
    assert shuffled != lines and sorted(shuffled) == sorted(lines)


def test_scoring_and_selecting_real_text(tmp_path):
    lines = gzip.decompress(Path(DATA, FILES[0]).read_bytes()).split(b"\n")[:40]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    target = f"target_data={Path(DATA, 'target_lima/lima_train.jsonl.gz')}"
    keys = [f"annotator_model={save_model(tmp_path / 'model')}", target, "target_size=4", "steps=2", "interval=1"]
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "scored.jsonl"), "lqs", *keys, "max_length=48"]
    assert main(SCORING, words) == 0
    scored = (tmp_path / "scored.jsonl").read_bytes().split(b"\n")[:-1]
    assert [line.rsplit(b', "score"', 1)[0] for line in scored] == [line[:-1] for line in lines]
    assert main(SELECTION, [str(tmp_path / "scored.jsonl"), str(tmp_path / "kept.jsonl"), "top-r", "r=0.25"]) == 0
    kept = (tmp_path / "kept.jsonl").read_bytes().split(b"\n")[:-1]
    best = sorted((json.loads(line)["score"] for line in scored), reverse=True)[:10]
    assert sorted((json.loads(line)["score"] for line in kept), reverse=True) == best
