"""`--dry-run`: what is wrong with a call is known in seconds, in the words of the call itself; nothing is written."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.models import loading
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from model_eval.entry import STAGE as EVALUATION
from model_train.entry import STAGE as TRAINING
from tests.fake_hub import Repository, serving
from tests.models import byte_tokenizer, save_model

ROWS = [{"id": i, "text": f"row {i}: " + "abc " * (i % 7), "score": i / 4, "group": "ab"[i % 2]} for i in range(40)]
CHATS = [{"prompt": f"question {i}", "response": f"answer {i}"} for i in range(10)]
LQS = ["annotator_model=model", "target_data=target.jsonl", "max_length=40", "scorer_model=null"]
TASK = {
    "task": "mine",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "items.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "question",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with one of everything."""
    folder = tmp_path_factory.mktemp("files")
    for name, rows in (("in", ROWS), ("target", ROWS[:5]), ("chat", CHATS), ("empty", []), ("blank", [{"text": " "}])):
        lines(folder / f"{name}.jsonl", rows)
    lines(folder / "broken.jsonl", [*ROWS[:3], {"text": 1}])
    lines(folder / "roles.jsonl", [{"messages": [{"role": "human", "content": "a"}]}])
    with gzip.open(folder / "in.jsonl.gz", "wt") as file:
        file.write((folder / "in.jsonl").read_text())
    save_model(folder / "model")
    save_model(folder / "bare")
    (folder / "bare/model.safetensors").unlink()
    save_model(folder / "mute")
    for path in (folder / "mute").glob("token*"):
        path.unlink()
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "one more"})
    tokenizer.save_pretrained(folder / "larger")
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    (folder / "a.yaml").write_text(yaml.safe_dump({"model_type": "mistral", **shape}))
    (folder / "task").mkdir()
    (folder / "task/mine.yaml").write_text(yaml.safe_dump(TASK))
    lines(folder / "task/items.jsonl", [{"question": "q", "choices": ["a", "b"], "answer": 0}])
    (folder / "benchmarks").mkdir()
    lines(folder / "benchmarks/piqa_validation.jsonl", [{"goal": "g", "sol1": "a", "sol2": "b", "label": 0}])
    lines(folder / "benchmarks/sciq_test.jsonl", [{"question": "q"}])
    (folder / "notes.jsonl").write_text("mine\n")
    (folder / "results").mkdir()
    (folder / "results/mine.txt").write_text("mine\n")
    return folder


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    """A copy of it, to work in; no hub."""
    shutil.copytree(files, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "here/cache"))
    for module in (
        "data_common.hub.network",
        "data_common.models.loading",
        "data_common.hub.snapshots",
        "model_eval.lm_evaluation_harness.network",
    ):
        monkeypatch.setattr(f"{module}.hub_answers", lambda: False)
    return tmp_path / "here"


def listing():
    """All files with their content's stamp."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in Path().rglob("*")}


GOOD = [
    (SELECTION, ["in.jsonl", "out.jsonl", "top-r", "direction=higher", "group_field=group"]),
    (SELECTION, ["in.jsonl.gz", "out.jsonl", "token-budget", "tokens=9", "direction=higher", "tokenizer=model"]),
    (ORDERING, ["in.jsonl", "out.jsonl", "folding", "select=top-r", "select.direction=lower"]),
    (ORDERING, ["in.jsonl", "parts", "sorting", "rows_per_shard=7"]),
    (SCORING, ["in.jsonl", "out.jsonl", "lqs", "score_field=new", *LQS]),
    (SCORING, ["in.jsonl", "out.jsonl", "lqs", "score_field=new", *LQS, "proxy_size=20"]),
    (SCORING, ["in.jsonl.gz", "out.jsonl", "pds", "overwrite=true", *LQS]),
    (SCORING, ["in.jsonl", "out.jsonl", "perplexity", "model=model", "max_length=64", "score_field=ppl"]),
    (SCORING, ["in.jsonl", "out.jsonl", "min-k", "model=model", "max_length=64", "score_field=k"]),
    (SCORING, ["in.jsonl", "out.jsonl", "kenlm", "train_data=target.jsonl", "score_field=kenlm"]),
    (
        SCORING,
        ["in.jsonl", "out.jsonl", "color-filter", "model=model", "prior_model=model", "max_length=64", "score_field=c"],
    ),
    (SCORING, ["in.jsonl", "out.jsonl", "quality-classifier", "positive_data=target.jsonl", "score_field=quality"]),
    (SCORING, ["in.jsonl", "out.jsonl", "dsir", "target_data=target.jsonl", "score_field=dsir"]),
    (SCORING, ["in.jsonl", "out.jsonl", "page-features", "score_field=rules"]),
    (
        SCORING,
        ["in.jsonl", "o.jsonl", "rds-plus", "target_data=target.jsonl", "embedder=tfidf", "score_field=near"],
    ),
    (SCORING, ["in.jsonl", "out.jsonl", "combine", "fields=[score]", "lower_is_better=[]", "score_field=all"]),
    (TRAINING, ["in.jsonl", "model", "out", "pretrain", "max_length=64"]),
    (TRAINING, ["in.jsonl", "bare", "out", "pretrain", "max_length=64", "heldout_data=target.jsonl"]),
    (TRAINING, ["in.jsonl", "a.yaml", "out", "pretrain", "tokenizer=model", "max_length=64"]),
    (TRAINING, ["chat.jsonl", "model", "out", "posttrain", "max_length=64"]),
    (TRAINING, ["in.jsonl", "model", "out", "tokenize", "format=mds"]),
    (EVALUATION, ["model", "r.yaml", "perplexity", "data=[in.jsonl,target.jsonl]"]),
    (EVALUATION, ["model", "r.yaml", "lm_evaluation_harness", "tasks=task"]),
    (EVALUATION, ["model", "r.yaml", "lm_evaluation_harness", "tasks=piqa", "data_dir=benchmarks"]),
]
NAMES = [f"{stage.name}-{words[-len(words) + len(stage.paths)]}-{number}" for number, (stage, words) in enumerate(GOOD)]


@pytest.mark.parametrize(("stage", "words"), GOOD, ids=NAMES)
def test_a_call_that_will_work(stage, words, here, capsys):
    for weights in here.rglob("*.safetensors"):
        weights.write_bytes(b"are not looked at")
    before = listing()
    assert main(stage, [*words, "--dry-run"]) == 0
    assert listing() == before
    keys = yaml.safe_load(capsys.readouterr().out)  # standard output is the keys alone
    assert all(word.split("=")[0] in keys for word in words if "=" in word)


NOWHERE = "no such folder; as a hub id it could not be had either"
PROBLEMS = [
    # IN and its rows
    (SELECTION, ["none.jsonl", "o.jsonl", "top-r"], "no such file: none.jsonl"),
    (SELECTION, ["empty.jsonl", "o.jsonl", "top-r", "direction=higher"], "empty.jsonl holds no rows"),
    (SELECTION, ["in.jsonl", "o.jsonl", "top-r", "direction=higher", "score_field=lqs"], "in.jsonl:1: lqs is missing"),
    (
        SELECTION,
        ["in.jsonl", "o.jsonl", "top-r", "direction=higher", "group_field=kind"],
        "in.jsonl:1: kind is missing",
    ),
    (SELECTION, ["in.jsonl", "o.jsonl", "top-r"], "is a higher or a lower score better?"),
    (ORDERING, ["in.jsonl", "o.jsonl", "sorting", "select=top-r"], "set select.direction=higher"),
    (ORDERING, ["in.jsonl.gz", "o.jsonl", "sorting", "score_field=text"], "in.jsonl.gz:1: text is a string"),
    (SCORING, ["in.jsonl", "o.jsonl", "perplexity", "model=model"], "score is there already"),
    (SCORING, ["broken.jsonl", "o.jsonl", "perplexity", "model=model", "score_field=a"], "broken.jsonl:4: text is"),
    (SCORING, ["blank.jsonl", "o.jsonl", "perplexity", "model=model"], "blank.jsonl:1: no text to score"),
    (SCORING, ["in.jsonl", "o.jsonl", "combine", "fields=[score,ppl]", "score_field=a"], "in.jsonl:1: ppl is missing"),
    (SCORING, ["in.jsonl", "o.jsonl", "combine", "fields=[score]", "score_field=a"], "lower_is_better=[score]"),
    (TRAINING, ["in.jsonl", "model", "out", "pretrain", "text_field=body"], "in.jsonl:1: body is missing"),
    (TRAINING, ["in.jsonl", "model", "out", "posttrain"], "the first row has none of these fields"),
    (TRAINING, ["roles.jsonl", "model", "out", "posttrain"], "roles.jsonl:1: "),
    (EVALUATION, ["model", "r.yaml", "perplexity", "data=blank.jsonl"], "blank.jsonl:1: no text"),
    (EVALUATION, ["model", "r.yaml", "perplexity", "data=[in.jsonl,none.jsonl]"], "no such file: none.jsonl"),
    # OUT
    (SELECTION, ["in.jsonl", "notes.jsonl", "top-r", "direction=higher"], "OUT=notes.jsonl exists, and there is no"),
    (SELECTION, ["in.jsonl", "in.jsonl/o.jsonl", "top-r", "direction=higher"], "cannot write in.jsonl/o.jsonl"),
    (ORDERING, ["in.jsonl", "results", "sorting", "rows_per_shard=5"], "cannot replace the folder results"),
    (
        SCORING,
        ["in.jsonl", "results", "combine", "fields=[id]", "lower_is_better=[]", "overwrite=true"],
        "it is a folder",
    ),
    (TRAINING, ["in.jsonl", "model", "in.jsonl/out", "pretrain", "max_length=64"], "cannot write in.jsonl/out"),
    (TRAINING, ["in.jsonl", "model", "results", "pretrain"], "results exists and is no unchanged result"),
    (TRAINING, ["in.jsonl", "model", "results", "tokenize"], "results exists and is no unchanged result of this call"),
    (TRAINING, ["in.jsonl", "mute", "out", "tokenize"], "cannot load the tokenizer of mute"),
    (EVALUATION, ["model", "results", "perplexity", "data=in.jsonl"], "cannot write results: it is a folder"),
    (EVALUATION, ["model", "notes.jsonl", "perplexity", "data=in.jsonl"], "exists and is no result of model_eval"),
    (
        SCORING,
        ["target.jsonl", "o.jsonl", "perplexity", "model=model", "score_field=a", "max_length=64", "work_dir=model/w"],
        "work_dir model/w lies in model",
    ),
    # models
    (SCORING, ["target.jsonl", "o.jsonl", "perplexity", "model=./none", "score_field=a"], "no model folder ./none"),
    (SCORING, ["target.jsonl", "o.jsonl", "perplexity", "model=none", "score_field=a"], NOWHERE),
    (SCORING, ["target.jsonl", "o.jsonl", "min-k", "model=bare", "score_field=a"], "the model bare has no weights"),
    (
        SCORING,
        ["target.jsonl", "o.jsonl", "min-k", "model=model", "max_length=64", "score_field=a", "reference_model=mute"],
        "tokenizer of mute",
    ),
    (
        SCORING,
        ["target.jsonl", "o.jsonl", "perplexity", "model=model", "score_field=a", "max_length=65"],
        "max_length=65 is more",
    ),
    (TRAINING, ["in.jsonl", "mute", "out", "pretrain"], "cannot load the tokenizer of mute"),
    (TRAINING, ["in.jsonl", "bare", "out", "pretrain", "from_scratch=false"], "the model bare has no weights"),
    (
        TRAINING,
        ["in.jsonl", "model", "out", "pretrain", "max_length=65"],
        "max_length=65 is more than the 64 positions",
    ),
    (
        TRAINING,
        ["in.jsonl", "model", "out", "pretrain", "max_length=64", "tokenizer=larger"],
        "259 tokens, 258 embeddings",
    ),
    (TRAINING, ["in.jsonl", "a.yaml", "out", "pretrain"], "is an architecture file: tokenizer="),
    (
        TRAINING,
        ["in.jsonl", "model", "out", "pretrain", "learning_rate=null", "min_learning_rate=null"],
        "learning_rate is null",
    ),
    (TRAINING, ["in.jsonl", "model", "out", "pretrain", "max_length=64", "attention=flash_attention_2"], "of model"),
    (TRAINING, ["in.jsonl", "model", "out", "pretrain", "max_length=64", "heldout_data=none.jsonl"], "none.jsonl"),
    (TRAINING, ["in.jsonl", "model", "out", "pretrain", "report_to=quill"], "unknown tracker 'quill'"),
    (EVALUATION, ["bare", "r.yaml", "perplexity", "data=in.jsonl"], "the model bare has no weights"),
    (EVALUATION, ["task", "r.yaml", "perplexity", "data=in.jsonl"], "the folder task holds no model"),
    (
        SELECTION,
        ["in.jsonl", "o.jsonl", "token-budget", "tokens=9", "direction=higher", "tokenizer=mute"],
        "tokenizer of mute",
    ),
    # what lqs needs
    (
        SCORING,
        ["target.jsonl", "o.jsonl", "lqs", "score_field=a", *LQS[1:], "annotator_model=bare"],
        "the model bare has no weights",
    ),
    (
        SCORING,
        ["target.jsonl", "o.jsonl", "lqs", "score_field=a", *LQS, "target_field=body"],
        "target.jsonl:1: body is missing",
    ),
    (
        SCORING,
        ["in.jsonl", "o.jsonl", "lqs", "score_field=a", *LQS[:3], "scorer_model=some/scorer", "proxy_size=25"],
        "scorer_model=null",
    ),
    (SCORING, ["in.jsonl", "o.jsonl", "lqs", "score_field=a", *LQS, "proxy_size=10"], "10 rows are too few to fit"),
    (SCORING, ["in.jsonl", "o.jsonl", "lqs", "score_field=a", "scorer_checkpoint=model"], "is no data scorer"),
    (SCORING, ["in.jsonl", "o.jsonl", "kenlm", "score_field=a", "model_path=no.arpa"], "no.arpa: no such file"),
    (SCORING, ["in.jsonl", "o.jsonl", "kenlm", "score_field=a", "model_path=some/kenlm"], "some/kenlm"),
    (SCORING, ["in.jsonl", "o.jsonl", "kenlm", "score_field=a", "train_data=none.jsonl"], "none.jsonl"),
    # tasks
    (EVALUATION, ["model", "r.yaml", "lm_evaluation_harness", "tasks=none/here"], "none/here"),
    (EVALUATION, ["model", "r.yaml", "lm_evaluation_harness", "tasks=sciq", "data_dir=benchmarks"], "missing columns"),
    (
        EVALUATION,
        ["model", "r.yaml", "lm_evaluation_harness", "tasks=gsm8k", "data_dir=benchmarks"],
        "no file of its split",
    ),
    (EVALUATION, ["model", "r.yaml", "lm_evaluation_harness", "tasks=humaneval"], "allow_code_execution=true"),
    (EVALUATION, ["bare", "r.yaml", "lm_evaluation_harness", "tasks=task"], "the model bare has no weights"),
]
DEVICES = [
    (SCORING, ["in.jsonl", "o.jsonl", "lqs", "score_field=a", *LQS]),
    (SCORING, ["in.jsonl", "o.jsonl", "perplexity", "model=model", "max_length=64", "score_field=a"]),
    (TRAINING, ["in.jsonl", "model", "out", "pretrain", "max_length=64"]),
    (EVALUATION, ["model", "r.yaml", "perplexity", "data=in.jsonl"]),
    (EVALUATION, ["model", "r.yaml", "lm_evaluation_harness", "tasks=task"]),
]


def one_error(capsys):
    """The only line of its kind."""
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize(("stage", "words", "message"), PROBLEMS, ids=[" ".join(words) for _, words, _ in PROBLEMS])
def test_a_problem_is_said_in_the_words_of_the_call(stage, words, message, here, capsys):
    before = listing()
    assert main(stage, [*words, "--dry-run"]) == 2
    said = one_error(capsys)
    assert message in said and listing() == before
    assert main(stage, words) == 2
    assert one_error(capsys) == said


@pytest.mark.parametrize(("stage", "words"), [*DEVICES[:1], *DEVICES[2:3]], ids=["lqs", "pretrain"])
@pytest.mark.parametrize("flags", [["--dry-run"], []])
def test_a_tracker_without_a_key_is_known_before_the_model_is_loaded(stage, words, flags, here, capsys, monkeypatch):
    wandb = pytest.importorskip("wandb")

    def refuses():
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "login", refuses)  # the real one keeps the mode for as long as the process lives
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert main(stage, [*words, "report_to=wandb", *flags]) == 2
    assert "report_to=wandb: No API key configured" in one_error(capsys)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main(stage, [*words, "report_to=wandb", "--dry-run"]) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("stage", "words"), DEVICES, ids=[words[2] for _, words in DEVICES])
@pytest.mark.parametrize("flags", [["--dry-run"], []])
def test_a_device_that_is_not_there_is_known_before_anything_is_tokenized(
    stage, words, flags, here, capsys, monkeypatch
):
    for name in (
        "data_scoring.engines.influence.tokenization.write_samples",
        "data_scoring.engines.likelihood.write_samples",
        "model_train.tokenized_corpus.read_corpus",
        "data_common.models.tokens.tokenize",
    ):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("tokenized"))
    assert main(stage, [*words, "device=cuda", *flags]) == 2
    assert "device cuda cannot be used" in one_error(capsys)


def test_it_is_a_look_and_no_scan(here, capsys):
    """What is far behind in a file is left to the call."""
    many = [{"text": "word " * 200, "score": i} for i in range(400)]  # 400 kB
    lines(here / "long.jsonl", [*many, {"text": 1}])
    calls = [
        (SELECTION, ["long.jsonl", "o.jsonl", "top-r", "direction=higher"], "long.jsonl:401: score is missing"),
        (SCORING, ["long.jsonl", "o.jsonl", "perplexity", "model=model", "score_field=a"], "long.jsonl:401: text is"),
    ]
    for stage, words, message in calls:
        words = [*words, *(["max_length=64"] if stage is SCORING else [])]
        assert main(stage, [*words, "--dry-run"]) == 0
        assert main(stage, words) == 2 and message in one_error(capsys)
    words = ["long.jsonl", "o.jsonl", "top-r", "direction=higher", "score_field=none", "on_bad_row=drop", "--dry-run"]
    assert main(SELECTION, words) == 0
    assert "none of the first rows of long.jsonl can be used: {'none is missing'" in capsys.readouterr().err


def test_instruction_rows_are_read_before_the_model_is_loaded(here, capsys, monkeypatch):
    chats = [{"prompt": "question " * 20, "response": "answer"} for _ in range(2000)]  # 400 kB
    lines(here / "chats.jsonl", [*chats, {"prompt": "unanswered"}])
    load = loading.load_model
    monkeypatch.setattr(
        loading,
        "load_model",
        lambda path, tokenizer, weights=True, **keys: (
            pytest.fail("loaded") if weights else load(path, tokenizer, False, **keys)
        ),
    )
    assert main(TRAINING, ["chats.jsonl", "model", "out", "posttrain", "max_length=64"]) == 2
    assert "chats.jsonl:2001: response is missing" in one_error(capsys)


@pytest.mark.parametrize("source", ["in.jsonl", "in.jsonl.gz"])
def test_a_scorer_model_that_cannot_be_had_is_known_before_the_annotation(source, here, capsys, monkeypatch):
    monkeypatch.setattr(
        "data_scoring.engines.influence.annotate_fit_score.annotate", lambda *_: pytest.fail("annotated")
    )
    monkeypatch.setattr(
        "data_scoring.engines.influence.tokenization.write_samples", lambda *_, **__: pytest.fail("tokenized")
    )
    words = [source, "o.jsonl", "lqs", "score_field=a", *LQS[:3], "scorer_model=some/scorer"]
    assert main(SCORING, [*words, "proxy_size=25"]) == 2
    said = one_error(capsys)
    assert "some/scorer" in said and NOWHERE in said and "scorer_model=null takes annotator_model" in said
    with pytest.raises(pytest.fail.Exception, match="tokenized"):  # of 40 rows none is left to a data scorer
        main(SCORING, [*words, "proxy_size=40"])


def test_what_only_the_hub_has_is_asked_for_and_not_fetched(here, tmp_path):
    with serving() as hub:
        files = {path.name: path.read_bytes() for path in Path("model").iterdir()}
        hub.repositories["models", "some/model"] = Repository(files)
        environment = os.environ | {
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "0",
        }
        for model, code in (("some/model", 0), ("some/other", 2)):
            words = ["in.jsonl", "o.jsonl", "perplexity", f"model={model}", "score_field=a", "--dry-run"]
            command = [sys.executable, "-m", "data_scoring.entry", *words]
            environment["PYTHONPATH"] = str(REPOSITORY)
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == code, done.stderr
        assert "error: cannot load the model of some/other (no such folder" in done.stderr
    assert set(hub.served) <= {""}  # no file; what it says of the other
    assert not (tmp_path / "home").exists()


def test_a_model_of_another_call_is_in_the_way(here, capsys):
    words = ["in.jsonl", "model", "out", "pretrain", "max_length=16", "warmup_steps=1", "batch_size=8"]
    assert main(TRAINING, words) == 0
    before = listing()
    assert main(TRAINING, [*words, "--dry-run"]) == 0
    assert main(TRAINING, [*words, "seed=3", "--dry-run"]) == 2
    assert "out is of another run: seed was 10, is 3 (resume=never replaces it)" in one_error(capsys)
    assert main(TRAINING, [*words, "seed=3", "resume=never", "--dry-run"]) == 0
    assert listing() == before


def test_names_of_tasks(here, capsys, monkeypatch):
    from model_eval.lm_evaluation_harness import harness

    monkeypatch.setattr(harness, "own_tasks", lambda: SimpleNamespace(all_tasks=["boolq", "copa"]))
    words = ["model", "r.yaml", "lm_evaluation_harness", "tasks=[boolq,copaa]"]
    assert main(EVALUATION, [*words, "--dry-run"]) == 2
    assert "copaa: unknown task; did you mean 'copa'?" in one_error(capsys)
    assert main(EVALUATION, [*words, "on_missing_task=skip", "--dry-run"]) == 0
    assert not Path("r.yaml.work").exists()


def test_the_keys_alone(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for flags in (["--dry-run=keys"], ["--dry-run", "--dry-run=keys"]):
        assert main(SCORING, ["in.jsonl", "o.jsonl", "perplexity", "model=none/here", *flags]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["model"] == "none/here"
    assert main(SCORING, ["in.jsonl", "o.jsonl", "perplexity", "--dry-run=keys"]) == 2
    assert "model is not set" in one_error(capsys)


def test_one_process_is_one_process(monkeypatch, here, capsys):
    monkeypatch.setenv("NPROC", "2")
    assert main(ORDERING, ["in.jsonl", "o.jsonl", "sorting", "--dry-run"]) == 2
    assert one_error(capsys) == "error: sorting runs in one process: unset NPROC"
