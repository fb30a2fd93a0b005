"""The benchmark of the stages runs what pipeline.sh prints."""

import importlib
import json

from benchmarks.stages import commands, name_of, trained_tokens
from data_common.calls.cli import main


def test_every_command_is_a_call_that_works(tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    assert trained_tokens(str(tmp_path)) == ""
    (models / "DELT.manifest.json").write_text(json.dumps({"trained_tokens": 1234}))
    names = []
    for words in commands(str(tmp_path)):
        names.append(name_of(words))
        words = [word.replace("AS_MANY_AS_DELT", trained_tokens(str(tmp_path))) for word in words]
        if words[0] == "bash":
            stage = words[1].split("/")[-2]
            assert main(importlib.import_module(f"{stage}.entry").STAGE, [*words[2:], "--dry-run=keys"]) == 0
    assert "model_train pretrain -> conventional" in names
