"""Python code that comes with a model or tokenizer: no loader of any stage runs it, unless the call says so."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import data_ordering.entry
import data_scoring.entry
import data_selection.entry
import model_eval.entry
import model_train.entry
from data_common.calls import remote_code
from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_scoring.engines.influence import data_scorer
from tests.model_eval.test_lm_evaluation_harness import write_task
from tests.models import save_model
from tests.planted import change, plant

LQS = "target_data=rows.jsonl max_length=32 steps=2 interval=1 proxy_size=24 scorer_epochs=1 score_field=lqs"
TRAINING = "max_length=32 max_tokens=300 batch_size=2 gradient_accumulation_steps=1 warmup_steps=1 save_steps=5"
CALLS = {  # of every loader; {} is the planted folder, `good` one without code
    "perplexity": (data_scoring.entry, "rows.jsonl out perplexity model={} score_field=p max_length=32"),
    "min-k": (data_scoring.entry, "rows.jsonl out min-k model=good reference_model={} score_field=p max_length=32"),
    "annotator": (data_scoring.entry, f"rows.jsonl out lqs annotator_model={{}} scorer_model=null {LQS}"),
    "chunks": (
        data_scoring.entry,
        f"rows.jsonl out pds annotator_model={{}} granularity=chunk scorer_model=good {LQS}",
    ),
    "scorer": (data_scoring.entry, f"rows.jsonl out lqs annotator_model=good scorer_model={{}} {LQS}"),
    "checkpoint": (data_scoring.entry, "rows.jsonl out lqs scorer_checkpoint={} score_field=lqs"),
    "pretrain": (model_train.entry, f"rows.jsonl {{}} out pretrain {TRAINING}"),
    "scratch": (model_train.entry, f"rows.jsonl {{}} out pretrain from_scratch=true {TRAINING}"),
    "posttrain": (model_train.entry, f"chat.jsonl {{}} out posttrain {TRAINING}"),
    "heldout": (model_eval.entry, "{} out perplexity data=rows.jsonl max_length=32"),
    "benchmarks": (model_eval.entry, "{} out lm_evaluation_harness tasks=task batch_size=8"),
}
TOKENIZERS = {  # calls that need no more of the folder than its tokenizer
    "counts": (data_selection.entry, "rows.jsonl out token-budget tokens=200 direction=higher tokenizer={}"),
    "ordering": (
        data_ordering.entry,
        "rows.jsonl out sorting select=token-budget select.tokens=200 select.direction=higher select.tokenizer={}",
    ),
    "tokens": (model_train.entry, "rows.jsonl {} out tokenize"),
    "tokenizer": (model_train.entry, f"rows.jsonl good out pretrain tokenizer={{}} {TRAINING}"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with rows, a task and a good model; and `y` on standard input for whoever asks."""
    import transformers.dynamic_module_utils

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 100))
    monkeypatch.setattr(remote_code, "_ran", [])
    remote_code.tell.cache_clear()
    rows = [{"text": f"row {i} " + "abc " * (i % 7 + 1), "score": i} for i in range(30)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chats = [{"prompt": row["text"], "response": "yes"} for row in rows]
    Path("chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    write_task(Path("task"))
    save_model(Path("good"))
    return tmp_path


def run(call: tuple, *more: str) -> int:
    entry, words = call
    return main(entry.STAGE, [*words.format("planted").split(), *more])


def plant_here(name: str, kind: str) -> Path:
    """The planted folder; as a data scorer where the call wants one. -> its mark."""
    mark = plant(Path("planted").resolve(), kind)
    if name == "checkpoint":
        scorer, tokenizer = data_scorer.new("good", 32, 0)
        scorer.save(Path("fitted"), tokenizer, {"max_length": 32, "long_rows": "cut"})
        for file in (data_scorer.FACTS, data_scorer.HEAD):
            shutil.copy(Path("fitted", file), "planted")
    return mark


@pytest.mark.parametrize("kind", ["model", "causal", "tokenizer"])
@pytest.mark.parametrize("name", CALLS)
def test_a_folder_that_needs_its_code_is_refused(here, name, kind, capsys):
    mark = plant_here(name, kind)
    capsys.readouterr()
    assert run(CALLS[name]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the ") and "planted needs Python code" in line
    assert line.endswith("trust_remote_code=true if you trust it")
    assert not mark.exists() and not Path("out").exists()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_that_needs_its_code_is_refused(here, name, capsys):
    mark = plant_here(name, "tokenizer")
    assert run(TOKENIZERS[name]) == 2
    assert "the tokenizer of planted needs Python code" in capsys.readouterr().err
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            (name, "known")
            for name in ("perplexity", "scorer", "pretrain", "scratch", "heldout", "benchmarks", "counts")
        ),
        *((name, "generate") for name in ("perplexity", "benchmarks")),
        *((name, "model") for name in TOKENIZERS),
    ],
)
def test_a_folder_that_does_without_its_code_is_loaded_without(here, name, kind, capsys):
    mark = plant_here(name, kind)
    assert run((CALLS | TOKENIZERS)[name]) == 0
    said = "note: planted comes with Python code that is not needed and not run (trust_remote_code=true runs it)"
    assert capsys.readouterr().out.count(said) == (kind == "known")
    assert not mark.exists()
    if Path("out/config.json").exists():  # of a model that transformers knows: its code did not come along
        for file in ("config.json", "tokenizer_config.json"):
            assert "auto_map" not in json.loads(Path("out", file).read_text())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            (name, kind)
            for name in ("perplexity", "benchmarks", "counts")
            for kind in ("causal", "tokenizer", "generate")
        ),
        *((name, "causal") for name in ("annotator", "scorer")),
        ("perplexity", "known"),
    ],
)
def test_the_key_runs_the_code_and_is_told(here, name, kind, capsys):
    mark = plant_here(name, kind)
    assert run((CALLS | TOKENIZERS)[name], "trust_remote_code=true") == 0
    out = capsys.readouterr().out
    runs = (name, kind) != ("counts", "generate")  # generation is of the model
    assert mark.exists() == runs == ("trust_remote_code=true: running the Python code of planted" in out)
    assert ("  trust_remote_code=true: ran the Python code of " if runs else "no such code was run") in out
    assert json.loads(Path("out.manifest.json").read_text())["config"]["trust_remote_code"] is True


@pytest.mark.parametrize("kind", ["model", "tokenizer"])
def test_a_model_that_was_trained_by_its_code_loads_with_the_key(here, kind, capsys):
    plant(Path("planted").resolve(), kind)
    assert run(CALLS["pretrain"], "trust_remote_code=true") == 0
    shutil.rmtree("planted")
    evaluation = (model_eval.entry, "out result.yaml perplexity data=rows.jsonl max_length=32 checkpoints=true")
    capsys.readouterr()
    assert run(evaluation) == 2
    assert "of out needs Python code that comes with it" in capsys.readouterr().err
    assert run(evaluation, "trust_remote_code=true") == 0
    assert "trust_remote_code=true: running the Python code of out\n" in capsys.readouterr().out


def test_chat_templates_are_rendered_in_a_sandbox(here, capsys):
    template = (
        "{{ cycler.__init__.__globals__.os.system('touch ran') }}{% for one in messages %}{{ one.content }}{% endfor %}"
    )
    change(Path("good/tokenizer_config.json"), chat_template=template)
    assert main(model_train.entry.STAGE, f"chat.jsonl good out posttrain {TRAINING}".split()) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "chat.jsonl:1: the chat template refuses it: access to attribute '__init__'" in line
    assert not Path("ran").exists()


def test_steps_of_earlier_runs_stay_valid_and_those_with_code_are_others(here, capsys):
    """The key is in no identity of a step where it is false; where it is true the tokens may be others."""
    plant(Path("planted").resolve(), "known")
    for more in ((), ("trust_remote_code=true",)):
        assert run(CALLS["perplexity"], *more) == 0
        step = json.loads(Path("out.work/tokenize/step.json").read_text())
        assert step["identity"]["keys"] == ({"trust_remote_code": True} if more else {})
        Path("out").unlink()
    assert "tokenize: made again, trust_remote_code was None, is True" in capsys.readouterr().out


def test_lines_on_standard_input_are_no_consent(here):
    mark = plant(Path("planted").resolve())
    words = CALLS["perplexity"][1].format("planted").split()
    environment = os.environ | {"DELT_PYTHON": sys.executable, "HF_HUB_OFFLINE": "1"}
    command = ["bash", str(REPOSITORY / "data_scoring/entry.sh"), *words]
    ended = subprocess.run(command, input="y\n" * 1000, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2 and "trust_remote_code=true if you trust it" in ended.stderr
    assert not mark.exists()
