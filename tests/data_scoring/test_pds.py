"""The stage `pds`; its formula is tested beside that of LQS, in test_lqs.py."""

import json

import numpy as np

from data_common.calls.cli import main
from data_scoring.entry import STAGE
from tests.models import save_model


def test_stage_scores_and_a_target_row_helps_the_target(tmp_path):
    texts = ["one two three four", "zzzz qqqq xxxx", "four three two one", "@@@@ ####"]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "target.jsonl").write_text(json.dumps({"text": texts[0]}) + "\n")
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "pds"]
    keys = [f"annotator_model={save_model(tmp_path / 'model')}", f"target_data={tmp_path / 'target.jsonl'}"]
    assert main(STAGE, [*words, *keys, "steps=2", "interval=1", "batch_size=4", "max_length=24"]) == 0
    scores = [json.loads(line)["score"] for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert np.argmax(scores) == 0 and scores[0] > 0
    assert json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["directions"] == {"score": "higher"}

    words = [str(tmp_path / "out.jsonl"), str(tmp_path / "both.jsonl"), "pds"]
    assert main(STAGE, [*words, *keys, "steps=1", "interval=1", "max_length=24", "score_field=short_run"]) == 0
    both = json.loads((tmp_path / "both.jsonl.manifest.json").read_text())["directions"]
    assert both == {"score": "higher", "short_run": "higher"}  # a second score does not lose the first one's direction
