"""The command lines as a user calls them: from anywhere, with mistakes."""

import os
import subprocess
import sys

import pytest
import yaml

import utils
from data_common.calls.cli import main
from data_common.calls.config import load_yaml
from data_common.calls.stage import REPOSITORY
from data_common.messages.errors import UserError
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from model_train.entry import STAGE as TRAINING

ROW_STAGES = ["data_scoring", "data_selection", "data_ordering"]
STAGES = [*ROW_STAGES, "model_train", "model_eval"]


def bash(*words, cwd):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"DELT_PYTHON": sys.executable}
    return subprocess.run(["bash", *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("stage", STAGES)
def test_help_from_anywhere_beside_a_foreign_utils_py(stage, tmp_path):
    (tmp_path / "utils.py").write_text("raise SystemExit('the wrong utils.py')")
    (tmp_path / "data_common.py").write_text("raise SystemExit('the wrong data_common.py')")
    done = bash(REPOSITORY / stage / "entry.sh", "--help", cwd=tmp_path)
    assert done.returncode == 0 and f"usage: bash {stage}/entry.sh" in done.stdout and not done.stderr


@pytest.mark.parametrize("stage", ["data_selection", "data_ordering"])
def test_row_stages_never_import_torch(stage, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"score": 1}\n')
    words = {"data_selection": ["top-r", "direction=higher"], "data_ordering": ["folding"]}[stage]
    code = f"""import sys
from {stage}.entry import STAGE
from data_common.calls.cli import main
assert main(STAGE, ["in.jsonl", "out.jsonl", *{words}]) == 0
assert main(STAGE, ["--help"]) == 0
print(sorted({{"torch", "transformers", "datasets", "matplotlib", "scipy"}} & sys.modules.keys()))"""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip().endswith("[]"), done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in.jsonl"], "OUT.jsonl is missing; usage: bash data_ordering/entry.sh"),
        (["in.jsonl", "out.jsonl"], "METHOD is missing"),
        (["in.jsonl", "out.jsonl", "foldign"], "did you mean 'folding'?"),
        (["in.jsonl", "out.jsonl", "folding", "nowhere.yaml"], "no configuration file nowhere.yaml"),
        (["in.jsonl", "out.jsonl", "folding", "my.yaml", "5"], "e.g. folding_layer=5"),
        (["in.jsonl", "out.jsonl", "folding", "foldinglayer=5"], "did you mean 'folding_layer'?"),
        (["in.jsonl", "out.jsonl", "folding", "folding_layer=0"], "folding_layer: 0 is not valid"),
        (["in.jsonl", "out.jsonl", "folding", "folding_layer=2.5"], "folding_layer: 2.5 is not valid"),
        (["in.jsonl", "out.jsonl", "folding", "ascending=perhaps"], "ascending: perhaps is not valid"),
        (["in.jsonl", "out.jsonl", "folding", "on_bad_row=ignore"], "error | drop"),
        (["in.jsonl", "out.jsonl", "folding", "--verbose"], "unknown option --verbose"),
        (["in.jsonl", "out.jsonl", "folding", "-l", "3"], "unknown option -l"),
        (["in.jsonl", "out.jsonl", "folding", "broken.yaml"], "broken.yaml:2: broken YAML"),
        (["in.jsonl", "out.jsonl", "folding", "twice.yaml"], "twice.yaml:2: broken YAML: folding_layer is set twice"),
        (["in.jsonl", "out.jsonl", "folding", "list.yaml"], "expected `key: value` lines"),
        (["in.jsonl", "out.jsonl", "folding", "unknown.yaml"], "unknown.yaml: unknown key 'layers'"),
    ],
)
def test_mistakes_get_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("folding_layer: 2\n")
    (tmp_path / "broken.yaml").write_text("a: 1\nb: ]\n")
    (tmp_path / "twice.yaml").write_text("folding_layer: 2\nfolding_layer: 3\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "unknown.yaml").write_text("name: x\nlayers: 3\n")
    assert main(ORDERING, words) == 2  # before IN is looked for: it is not there
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_key_is_given_once_in_a_mapping_and_merged_keys_may_be_given_again(tmp_path):
    path = tmp_path / "a.yaml"
    for text in ("a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b}\n", "a: {1: x, '1': y}\n"):
        path.write_text(text)
        assert load_yaml(path) == yaml.safe_load(text)
    path.write_text("a: {x: 1, y: {x: 2, x: 3}}\n")
    with pytest.raises(UserError, match="x is set twice"):
        load_yaml(path)


def test_yaml_then_words_override(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("name: mine\nversion: 2\ndescription: x\nfolding_layer: 2\nascending: false\n")
    assert main(ORDERING, ["a", "b", "folding", "my.yaml", "folding_layer=7", "--dry-run=keys"]) == 0
    shown = capsys.readouterr().out
    assert "folding_layer: 7" in shown and "ascending: false" in shown and "score_field: score" in shown
    (tmp_path / "r.yaml").write_text("{}")
    for words, default in ((["top-r"], "0.5"), (["a", "b", "top-r", "r.yaml"], "1.0")):  # the YAML's; the signature's
        assert main(SELECTION, [*words, "--help"]) == 0
        assert f"  r  (float >= 0, <= 1; default {default})" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stage", "words", "message"),
    [
        (SELECTION, ["gumbel", "k=2"], "exactly one of r and k"),
        (SELECTION, ["token-budget", "tokens=9", "tokens_field=a", "tokenizer=b"], "set one of them"),
        (SELECTION, ["quantile", "lower_quantile=0.9", "upper_quantile=0.1"], "is above"),
        (ORDERING, ["segment", "x_pct=90", "y_pct=90"], "100"),
        (ORDERING, ["sorting", "select=gumbel", "select.k=2"], "exactly one of r and k"),
        (SCORING, ["perplexity"], "model is not set"),
        (SCORING, ["lqs", "annotator_model=m", "target_data=t", "device=cuda:1"], "CUDA_VISIBLE_DEVICES"),
        (TRAINING, ["pretrain", "min_learning_rate=1", "learning_rate=0.1"], "min_learning_rate=1 is above"),
        (TRAINING, ["pretrain", "min_learning_rate=0", "scheduler=constant"], "is of cosine, linear, wsd only"),
        (TRAINING, ["pretrain", "decay_share=0.3"], "decay_share is of scheduler=wsd only"),
        (TRAINING, ["pretrain", "average_last=3"], "average_last is of average=uniform and exponential only"),
        (TRAINING, ["pretrain", "average=uniform"], "needs average_every"),
        (TRAINING, ["pretrain", "average=uniform", "average_every=2", "average_decay=0.5"], "exponential only"),
        (TRAINING, ["pretrain", "cross_document_attention=false", "max_length=2"], "max_length=2"),
    ],
)
@pytest.mark.parametrize("flags", [["--dry-run"], []])
def test_keys_that_do_not_go_together_are_an_error_before_anything_is_read(stage, words, message, flags, capsys):
    paths = ["nothing.jsonl", "b", "c"][: len(stage.paths)]
    assert main(stage, [*paths, *words, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and "nothing.jsonl" not in error


@pytest.mark.parametrize("flags", [["--dry-run"], []])
@pytest.mark.parametrize(
    "name", ["o.parquet", "o.CSV", "o.tsv.gz", "o.json", "o.json.zst", "o.jsonl.bz2", "dir/o.arrow"]
)
def test_a_name_that_promises_something_else_than_lines_is_refused(name, flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"score": 1, "text": "a"}\n')
    calls = [
        (SCORING, ["in.jsonl", name, "combine", "fields=[score]", "score_field=new"], f"OUT={name}"),
        (SELECTION, ["in.jsonl", name, "top-r", "direction=higher"], f"OUT={name}"),
        (SELECTION, ["in.jsonl", "o.jsonl", "top-r", "direction=higher", f"rejects={name}"], f"rejects={name}"),
        (ORDERING, ["in.jsonl", name, "sorting", "rows_per_shard=1"], f"OUT={name}"),
    ]
    for stage, words, named in calls:
        assert main(stage, [*words, *flags]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {named}: JSON lines") and ".jsonl.gz" in error and error.count("\n") == 1
    if name != "o.parquet":  # which utils.py can write
        assert utils.main(["--content", "dataset", "--id", "in.jsonl", "--save-dir", name, *flags]) == 2
        assert f"--save-dir={name}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("name", ["out", "tmp.Xy12ab", "o.txt", "o.ndjson", "o.jsonl.zst", "a.parquet.jsonl"])
def test_other_names_are_fine(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"score": 1}\n')
    (tmp_path / name).touch()  # as mktemp does
    assert main(ORDERING, ["in.jsonl", name, "sorting"]) == 0 and (tmp_path / name).stat().st_size


@pytest.mark.parametrize("flags", [["--dry-run"], [], ["--help"]])
@pytest.mark.parametrize("words", [["r=0.3", "r=0.5"], ["r=0.3", "r=0.3"], ["r=0.3", "direction=higher", "r=0.5"]])
def test_a_key_is_given_once_in_a_call(words, flags, capsys):
    assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-r", *words, *flags]) == 2
    assert capsys.readouterr().err == f"error: r is set twice: 0.3, then {words[-1][2:]}\n"


def test_numbers_that_yaml_takes_for_text(capsys):
    assert main(SELECTION, ["a", "b", "threshold", "threshold=1e-3", "--dry-run=keys"]) == 0
    assert "threshold: 0.001" in capsys.readouterr().out


def test_several_processes_are_refused_rather_than_ignored(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NPROC", "2")
    assert main(ORDERING, ["a", "b", "sorting"]) == 2
    assert "one process" in capsys.readouterr().err


def test_dry_run_of_the_pipeline_prints_every_stage(tmp_path):
    environment = os.environ | {"DRY_RUN": "1"}
    done = subprocess.run(
        ["bash", REPOSITORY / "pipeline.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for stage in STAGES:
        assert f"{stage}/entry.sh" in done.stdout
    assert "corpus_scored-lqs_selected-r0.5_ordered-folding-l3.jsonl" in done.stdout
    assert not list(tmp_path.iterdir())
