"""The benchmark of the stages runs what pipeline.sh prints."""

import importlib
import json

from benchmarks.stages import commands, filled, name_of
from data_common.calls.cli import main


def test_every_command_is_a_call_that_works(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "data").mkdir()
    assert filled(["k=AS_MANY_AS_SELECTED"], str(tmp_path)) == ["k=AS_MANY_AS_SELECTED"]
    (tmp_path / "models/DELT.manifest.json").write_text(json.dumps({"trained_tokens": 1234}))
    selected = tmp_path / "data/corpus_scored-lqs_selected-r0.5.jsonl.manifest.json"
    selected.write_text(json.dumps({"rows_out": 56}))
    selected.with_name("corpus_scored-lqs_selected-r0.5_ordered-folding-l3.jsonl.manifest.json").write_text("{}")
    names = []
    for words in commands(str(tmp_path)):
        names.append(name_of(words))
        words = filled(words, str(tmp_path))
        assert not any("AS_MANY" in word for word in words)
        if words[0] == "bash":
            stage = words[1].split("/")[-2]
            assert main(importlib.import_module(f"{stage}.entry").STAGE, [*words[2:], "--dry-run=keys"]) == 0
    assert "model_train pretrain -> conventional" in names
