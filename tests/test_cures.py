"""A message names the cure: what to write instead, or the key that is meant. (Scripts and Pythons: test_shell.py.)"""

import json
import shutil

import pytest

import utils
from data_common.calls.cli import main
from data_common.messages.mistakes import MEANT
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from model_eval.entry import STAGE as EVALUATION
from model_train.entry import STAGE as TRAINING
from tests.models import save_model

ROWS = {
    "a.jsonl": {"text": "abc", "score": 1},
    "b.jsonl": {"text": "abc", "score": 1},
    "content.jsonl": {"id": 1, "content": "abc", "title": "x", "lqs": 2.5, "flag": True},
    "chat.jsonl": {"messages": [{"role": "human", "content": "x"}, {"role": "gpt", "content": "y"}]},
    "shards/a.jsonl": {"text": "abc", "score": 1},
}
SELECT = "bash data_selection/entry.sh"
PERPLEXITY = ["perplexity", "model=model", "max_length=16", "device=cpu", "score_field=new"]
LQS = [
    "lqs",
    "annotator_model=model",
    "max_length=16",
    "steps=2",
    "interval=1",
    "lag=1",
    "device=cpu",
    "score_field=new",
]
TRAIN = ["max_length=16", "device=cpu"]
WORDS = [  # the order of words, options, blanks, other names
    (SELECTION, "top-r a.jsonl o.jsonl", f"top-r comes after OUT.jsonl: {SELECT} a.jsonl o.jsonl top-r"),
    (SELECTION, "a.jsonl top-r o.jsonl r=0.5", f"top-r comes after OUT.jsonl: {SELECT} a.jsonl o.jsonl top-r r=0.5"),
    (SELECTION, "top-r a.jsonl", f"top-r comes after OUT.jsonl: {SELECT} a.jsonl OUT.jsonl top-r"),
    (ORDERING, "a.jsonl o.jsonl my.yaml sorting", "3 words stand before sorting, where IN.jsonl OUT.jsonl belong"),
    (SELECTION, "a.jsonl b.jsonl o.jsonl top-r", "put a glob in quotes ('folder/*.jsonl'), or name the folder"),
    (
        TRAINING,
        "pretrain a.jsonl model out",
        "pretrain comes after MODEL_OUT: bash model_train/entry.sh a.jsonl model out",
    ),
    (SELECTION, "a.jsonl o.jsonl top-r r 0.3", "; write r=0.3"),
    (SELECTION, "a.jsonl o.jsonl top-r r = 0.3", "; write r=0.3"),
    (SELECTION, "a.jsonl o.jsonl top-r r= 0.3", "; write r=0.3, without blanks"),
    (
        SELECTION,
        "a.jsonl o.jsonl top-r -r 0.3",
        "unknown option -r: only --help and --dry-run, all else is key=value; write r=0.3",
    ),
    (SELECTION, "a.jsonl o.jsonl top-r --score-field=x", "; write score_field=x"),
    (SELECTION, "a.jsonl o.jsonl top-r r=0.3 group_field source", "; write group_field=source"),
    (TRAINING, "a.jsonl model out pretrain --lr 1e-3", "; write learning_rate=1e-3"),
    (SELECTION, "a.jsonl o.jsonl top-r 0.3", "no configuration file 0.3"),
    (TRAINING, "a.jsonl model pretrain max_rows=2", "entry.sh a.jsonl model MODEL_OUT pretrain max_rows=2"),
    (SELECTION, "a.jsonl o.jsonl top-r --dryrun", "did you mean '--dry-run'?"),
    (SELECTION, "a.jsonl o.jsonl top-r --dry_run", "did you mean '--dry-run'?"),
    (SELECTION, "- o.jsonl top-r", "standard input is /dev/stdin"),
    (SELECTION, "a.jsonl o.jsonl top-r r=50%", "; write r=0.5"),
    (SELECTION, "a.jsonl o.jsonl top-r r=0,25", "; write r=0.25"),
    (SELECTION, "a.jsonl o.jsonl top-k k=1,000", "; write k=1000"),
    (SELECTION, "a.jsonl o.jsonl top-k k=1.5k", "; write k=1500"),
    (TRAINING, "a.jsonl model out pretrain max_tokens=2B", "; write max_tokens=2000000000"),
    (SCORING, "a.jsonl o.jsonl combine fields=score,x", "; write fields=[score,x]"),
    (ORDERING, "a.jsonl o.jsonl domain-upsampling base={web:7,code:3}", "; write base={web: 7,code: 3}"),
    (ORDERING, "a.jsonl o.jsonl spt domain=[1]", "names stand in quotes, as in ['1'] or {'1': ...}"),
    (SELECTION, "a.jsonl o.jsonl top-r score_field=", "score_field:  is not valid: it is empty (an unset variable?)"),
    (EVALUATION, "model o.yaml perplexity data=", "data:  is not valid: it is empty (an unset variable?)"),
    (SCORING, "a.jsonl o.jsonl LQS", "did you mean 'lqs'?"),
    (SCORING, "a.jsonl o.jsonl PerPlexity", "did you mean 'perplexity'?"),
    (SCORING, "a.jsonl o.jsonl ppl", "did you mean 'perplexity'?"),
    (ORDERING, "a.jsonl o.jsonl random", "did you mean 'shuffle'?"),
    (TRAINING, "a.jsonl model out sft", "did you mean 'posttrain'?"),
    (EVALUATION, "model o.yaml lm-eval", "did you mean 'lm_evaluation_harness'?"),
    (ORDERING, "a.jsonl o.jsonl sorting reverse=true", "did you mean 'ascending'?"),
    (TRAINING, "a.jsonl model out pretrain max_steps=9", "did you mean 'max_tokens'?"),
    (
        ORDERING,
        "a.jsonl o.jsonl sorting select.r=0.5",
        "unknown key 'select.r': it needs select=METHOD, whose key it is",
    ),
    (ORDERING, "a.jsonl o.jsonl sorting direction=lower", "did you mean 'ascending'?"),
    (TRAINING, "a.jsonl model out pretrain lr=1e-3", "did you mean 'learning_rate'?"),
    (EVALUATION, "model o.yaml perplexity", "data: no such file: data/python-stdlib/heldout.jsonl; python utils.py"),
]
PATHS = [  # what is read and written
    (SCORING, "a.jsonl o.jsonl kenlm score_field=k model_path=b.jsonl", "(train_data=b.jsonl trains one)"),
    (
        SELECTION,
        "~/a.jsonl o.jsonl top-r",
        "IN=~/a.jsonl: ~ stands for a folder in front of a word without quotes only",
    ),
    (SCORING, "a.jsonl o.jsonl kenlm train_data=~/b.jsonl", "~ stands for no folder here, write the path in full"),
    (SELECTION, "a.jsonl new/ top-r", "OUT=new/ is a folder: name a file in it, or rows_per_shard=N"),
    (SCORING, "a.jsonl new/ kenlm", "OUT=new/ is a folder: name a file in it"),
    (SCORING, ["a.jsonl", "o.jsonl", *PERPLEXITY, "work_dir=model"], "work_dir model lies in model, which is read"),
    (SCORING, ["a.jsonl", "o.jsonl", *PERPLEXITY, "work_dir=model/x"], "work_dir model/x lies in model, which is read"),
    (SCORING, ["a.jsonl", "o.jsonl", *PERPLEXITY, "work_dir=a.jsonl/x"], "work_dir a.jsonl/x cannot be used"),
    (EVALUATION, "model a.jsonl perplexity data=a.jsonl", "RESULT.yaml=a.jsonl is an input of this call"),
    (EVALUATION, "model model/config.json perplexity data=a.jsonl", "RESULT.yaml=model/config.json is an input of"),
    (EVALUATION, "model b.jsonl perplexity data=a.jsonl", "RESULT.yaml=b.jsonl exists and is no result of model_eval"),
    (TRAINING, ["a.jsonl", "model", "model", "pretrain", *TRAIN], "it is an input of this call: choose another"),
    (
        SELECTION,
        "[a.jsonl,b.jsonl] o.jsonl top-r direction=higher",
        "is a list: name one file, their folder, or a glob",
    ),
    (SELECTION, "a.jsonl,b.jsonl o.jsonl top-r direction=higher", "is a list: name one file, their folder, or a glob"),
    (
        SELECTION,
        "tables o.jsonl top-r direction=higher",
        "tables: python utils.py --content dataset --id tables --save-dir tables.jsonl",
    ),
    (SELECTION, "s3://b/a.jsonl o.jsonl top-r", "IN=s3://b/a.jsonl: a path of this machine is wanted"),
    (SELECTION, "a.jsonl https://b/o.jsonl top-r", "OUT=https://b/o.jsonl: a path of this machine is wanted"),
    (
        TRAINING,
        "a.jsonl https://huggingface.co/a/b out pretrain",
        "MODEL_IN=https://huggingface.co/a/b: a path of this machine, or an id",
    ),
    (
        EVALUATION,
        "model o.yaml perplexity data=s3://b/a.jsonl",
        "data: s3://b/a.jsonl: only files of this machine are read",
    ),
    (EVALUATION, "model o.yaml perplexity data=none.jsonl", "data: no such file: none.jsonl"),
    (
        EVALUATION,
        "model o.yaml lm_evaluation_harness contamination_data=none.jsonl",
        "contamination_data: no such file: none.jsonl",
    ),
    (SCORING, ["a.jsonl", "o.jsonl", *LQS, "target_data=none.jsonl"], "target_data: no such file: none.jsonl"),
    (SCORING, "a.jsonl o.jsonl kenlm score_field=new train_data=none.jsonl", "train_data: no such file: none.jsonl"),
    (
        TRAINING,
        ["a.jsonl", "model", "out", "pretrain", *TRAIN, "heldout_data=no*.jsonl"],
        "heldout_data: no file matches no*.jsonl",
    ),
    (SCORING, ["a.jsonl", "o.jsonl", *PERPLEXITY, "work_dir=a.jsonl"], "work_dir a.jsonl cannot be used"),
]
FIELDS = [  # fields that are there instead
    (
        SCORING,
        ["a.jsonl", "o.jsonl", *PERPLEXITY, "score_field=text", "overwrite=true"],
        "score_field=text is the text that is scored",
    ),
    (
        SCORING,
        ["content.jsonl", "o.jsonl", *PERPLEXITY],
        "content.jsonl:1: text is missing (the row has content, title: text_field=content)",
    ),
    (
        SCORING,
        ["a.jsonl", "o.jsonl", *LQS, "target_data=content.jsonl"],
        "(the row has content, title: target_field=content)",
    ),
    (
        SCORING,
        "a.jsonl o.jsonl kenlm score_field=new train_data=content.jsonl",
        "(the row has content, title: train_field=content)",
    ),
    (TRAINING, ["content.jsonl", "model", "out", "pretrain", *TRAIN], "text_field=content)"),
    (SCORING, ["chat.jsonl", "o.jsonl", *PERPLEXITY], "its messages are a chat: model_train posttrain reads messages"),
    (SELECTION, "content.jsonl o.jsonl top-r direction=higher", "score is missing (numbers of the row: id, lqs)"),
    (TRAINING, ["chat.jsonl", "model", "out", "posttrain", *TRAIN], "what others call human is user, gpt is assistant"),
]
MODELS = [
    (SCORING, ["a.jsonl", "o.jsonl", *PERPLEXITY, "model=model/config.json"], "name the folder that holds config.json"),
    (TRAINING, "a.jsonl none.yaml out pretrain", "no architecture file none.yaml"),
    (
        SCORING,
        ["a.jsonl", "o.jsonl", *PERPLEXITY, "device=gpu"],
        "device gpu cannot be used: no such device (device=auto, cpu, cuda, cuda:1 or mps)",
    ),
    (
        SCORING,
        ["a.jsonl", "o.jsonl", *PERPLEXITY, "model=bare"],
        "cannot load the tokenizer of bare: the folder has none",
    ),
    (
        TRAINING,
        ["a.jsonl", "bare", "out", "pretrain", *TRAIN],
        "copy that of the model that it comes from there; training takes tokenizer=FOLDER",
    ),
    (
        EVALUATION,
        "bare o.yaml perplexity data=a.jsonl max_length=16 device=cpu",
        "cannot load the tokenizer of bare: the folder has none",
    ),
    (SCORING, ["a.jsonl", "o.jsonl", *PERPLEXITY, "model=https://huggingface.co/a/b"], "as an id of the hub it is a/b"),
]
OPTIONS = [
    (
        "--content model --id ./model --save-dir new",
        "--id ./model is a path, and a model that is here needs no download",
    ),
    ("--content repo --id /tmp/model --save-dir new --revision main", "a model that is here needs no download"),
    (
        "--content model --id model --save-dir new --revision main",
        "model is a folder here, and a model that is here needs",
    ),
    (
        "--content dataset --id shards --save-dir new.jsonl --revision main",
        "shards is on this disk: leave out --revision",
    ),
    (
        "--content dataset --id a.jsonl --save-dir new.jsonl --split-name x",
        "a.jsonl is on this disk: leave out --split-name",
    ),
    (
        "--content dataset --id a.jsonl --save-dir new.jsonl --data-name x",
        "a.jsonl is on this disk: leave out --data-name",
    ),
    (
        "--content dataset --id https://huggingface.co/datasets/a/b --save-dir new.jsonl",
        "an id of the hub is owner/name: a/b",
    ),
    ("--content model --id tiny --save-dir new --data none.jsonl", "--data: no such file: none.jsonl"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cures")
    save_model(path / "model")
    for part in ("shards", "tables", "bare"):
        (path / part).mkdir()
    (path / "tables/x.parquet").write_bytes(b"PAR1")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(path / "model" / name, path / "bare")
    for name, row in ROWS.items():
        (path / name).write_text(json.dumps(row) + "\n")
    return path


def last_settings(words):
    """Of a key that is set twice the last value, in the place of the first; `r =` and the like are left alone."""
    found = {}
    for number, word in enumerate(words):
        key, sign, value = word.partition("=")
        found[key if sign and key and value else number] = word
    return list(found.values())


def one_line(error, cure):
    lines = [line for line in error.split("\n") if line.startswith("error: ")]
    return len(lines) == 1 and cure in lines[0]


@pytest.mark.parametrize(("stage", "words", "cure"), [*WORDS, *PATHS, *FIELDS, *MODELS])
def test_a_call(stage, words, cure, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert main(stage, last_settings(words.split() if isinstance(words, str) else words)) == 2
    error = capsys.readouterr().err
    assert one_line(error, cure), error
    left = [path for path in folder.rglob("*") if path not in before and ".work" not in str(path)]
    assert not [path for path in left if path.is_file() and not path.name.startswith(".")]


@pytest.mark.parametrize(("words", "cure"), OPTIONS)
def test_a_download(words, cure, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert utils.main(words.split()) == 2
    error = capsys.readouterr().err
    assert one_line(error, cure), error


def test_a_benchmark_without_the_hub():
    from model_eval.lm_evaluation_harness import harness

    class Offline:
        def load(self, names):
            raise ConnectionError(f"Couldn't reach 'baber/{names[0]}' on the Hub (OfflineModeIsEnabled)")

    problems = {}
    for task in ("piqa", "glue"):
        settings = harness.Settings(harness.Chat(False, None, True), 0, None, 0, False, 0)
        harness._load(Offline(), task, settings, harness.Loaded(), problems)
    assert problems["piqa"].endswith("on the Hub (OfflineModeIsEnabled); data_dir=FOLDER reads it from files")
    assert problems["glue"].endswith("on the Hub (OfflineModeIsEnabled)")  # data_dir knows nothing of it


def test_a_work_folder_of_another_method(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    work = f"work_dir={tmp_path / 'work'}"
    for name, words in (("one", PERPLEXITY), ("two", [*PERPLEXITY, "max_length=15"]), ("three", ["kenlm"])):
        words = last_settings(words)
        extra = ["train_data=b.jsonl", "tokenizer=words", "score_field=new"] if name == "three" else []
        assert main(SCORING, ["a.jsonl", str(tmp_path / f"{name}.jsonl"), *words, *extra, work]) == 0
    said = capsys.readouterr().out
    assert "score: made again, max_length was 16, is 15" in said
    assert "score: made again, what was there is of perplexity (a work_dir for each method keeps both)" in said


def test_other_names_are_of_keys_and_methods_that_exist():
    from data_common.calls.stage import keys_for, load_method, method_names

    stages = (SCORING, SELECTION, ORDERING, TRAINING, EVALUATION)
    known = {
        key
        for stage in stages
        for name in method_names(stage.name)
        for keys in keys_for(stage, load_method(stage, name)[0])
        for key in keys
    }
    known |= {name for stage in stages for name in method_names(stage.name)}
    assert set(MEANT.values()) <= known
