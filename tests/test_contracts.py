"""What every method owes, checked for all that are found: a new method is tested the moment its folder exists."""

import ast
import json
import re

import numpy as np
import pytest
import yaml

from data_common.calls import methods_page
from data_common.calls.cli import main
from data_common.calls.config import METADATA, columns_of, load_yaml, resolve
from data_common.calls.stage import FORMULA, REPOSITORY, about, keys_for, load_method, method_names
from data_common.row_methods.row_method import RowMethod, whole_numbers
from data_common.row_methods.table import ORDERING_INPUTS, SELECTION_INPUTS
from data_ordering.entry import STAGE as ORDERING
from data_ordering.entry import permutation
from data_ordering.schedules import phases_of
from data_scoring.columns import better_of
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from data_selection.repeats import checked_copies
from data_selection.rewriting import REWRITE
from data_selection.selector import once
from model_eval.entry import STAGE as EVALUATION
from model_train.entry import STAGE as TRAINING
from tests import golden

TABLES = {SELECTION.name: SELECTION_INPUTS, ORDERING.name: ORDERING_INPUTS}
STAGES = [SCORING, SELECTION, ORDERING, TRAINING, EVALUATION]
METHODS = [
    pytest.param(stage, name, id=f"{stage.name}/{name}") for stage in STAGES for name in method_names(stage.name)
]
ROW_METHODS = [
    pytest.param(stage, name, id=f"{stage.name}/{name}")
    for stage in (SELECTION, ORDERING)
    for name in method_names(stage.name)
    if load_method(stage, name)[0].__name__ != REWRITE
]
REWRITING = [name for name in method_names(SELECTION.name) if load_method(SELECTION, name)[0].__name__ == REWRITE]
SCORED = [method for method in ROW_METHODS if {"score", "raw_score"} & set(columns_of(load_method(*method.values)[0]))]
SCORES = [[], [0.5], [2.0, 1.0], [3.0, 3.0, 3.0], [1e300, -1e300, 0.0, -0.0, 5e-324]]


def values_of(stage, method, config):
    """The method's checked keys from its own YAML."""
    stage_keys, method_keys = keys_for(stage, method)
    values = resolve(stage_keys | method_keys, config, {})
    return {key: values[key] for key in method_keys}


def row_method(stage, name):
    """As a call has it, without keys where there are defaults."""
    method, config = load_method(stage, name)
    stage_keys, method_keys = keys_for(stage, method)
    values = resolve(stage_keys | method_keys, config, {"domain": "[one]"} if name == "spt" else {})
    return RowMethod(method, {key: values[key] for key in method_keys}, values, TABLES[stage.name])


def apply(stage, name, score):
    method = row_method(stage, name)
    result, _ = method.call({name: one.example(np.array(score)) for name, one in method.inputs.items()})
    return (
        np.concatenate([*phases_of(result, len(score)).values()]) if isinstance(result, dict) else whole_numbers(result)
    )


@pytest.mark.parametrize(("stage", "name"), METHODS)
def test_configuration_binds_and_explains_every_key(stage, name):
    method, config = load_method(stage, name)
    assert config is not None, "a method has a YAML of its name (or module.DEFAULT_CONFIG)"
    values_of(stage, method, config)
    text = config.read_text(encoding="utf-8")
    assert text.startswith("#"), "a YAML opens with a comment that says what it is"
    for key in yaml.safe_load(text):
        assert key in METADATA or any(key in keys for keys in keys_for(stage, method))


@pytest.mark.parametrize("config", sorted(REPOSITORY.glob("*/config/*.yaml")), ids=lambda p: f"{p.parts[-3]}/{p.name}")
def test_every_shipped_configuration_binds_to_a_method(config):
    stage = next(stage for stage in STAGES if stage.name == config.parts[-3])
    failures = []
    for name in method_names(stage.name):
        method, _ = load_method(stage, name)
        try:
            values_of(stage, method, config)
            return
        except Exception as error:
            failures.append(str(error))
    pytest.fail(f"{config} binds to no method: {failures}")


@pytest.mark.parametrize(("stage", "name"), METHODS)
def test_keys_have_help_type_and_no_clash(stage, name):
    method, _ = load_method(stage, name)
    stage_keys, method_keys = keys_for(stage, method)
    assert not stage_keys.keys() & method_keys.keys() - {"seed"}  # one seed for method and stage
    for key in (stage_keys | method_keys).values():
        assert key.help, f"{key.name} has no line in the docstring's Args"
        assert key.type is not type(None) and key.type != __import__("inspect").Parameter.empty


@pytest.mark.parametrize(("stage", "name"), METHODS)
def test_docstring_says_what_and_whence(stage, name):
    path = REPOSITORY / stage.name / name.replace("-", "_") / "method.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstring = ast.get_docstring(tree)
    assert docstring and len(docstring.split("\n")[0]) <= 110
    assert re.search(r"arXiv|https?://|ACL|NeurIPS|ICML|ICLR", docstring), "the module names its source"


@pytest.mark.parametrize(("stage", "name"), METHODS)
def test_a_method_says_what_it_needs_costs_and_how_sure_its_formula_is(stage, name):
    facts = about(stage.name, name)
    assert facts.family and facts.needs and facts.cost and facts.sources
    assert facts.formula in FORMULA


def test_the_pages_list_the_methods_as_they_are():
    assert methods_page.PAGE.read_text(encoding="utf-8") == methods_page.page(), methods_page.__doc__
    assert methods_page.FRONT_PAGE.read_text(encoding="utf-8") == methods_page.front_page(), methods_page.__doc__


def test_addresses_end_before_the_full_stop():
    assert about("data_scoring", "difficulty").sources[1:] == (
        "https://doi.org/10.3758/BRM.42.2.381",
        "https://doi.org/10.1037/h0057532",
    )


def test_the_front_page_is_short():
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").split("\n")) <= 160


@pytest.mark.parametrize(("stage", "name"), METHODS)
def test_help_needs_no_heavy_import(stage, name, capsys):
    assert main(stage, [name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"keys of {name}" in text
    _, config = load_method(stage, name)
    for key, value in load_yaml(config).items():  # what a call without a configuration takes
        shown = str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
        shown = f"[{','.join(value)}]" if isinstance(value, list) else shown
        assert re.search(rf"^  {key}  \(.*; default {re.escape(shown)}\)$", text, re.MULTILINE), key
    path = REPOSITORY / stage.name / name.replace("-", "_") / "method.py"
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert not imported & {"torch", "transformers", "datasets", "lm_eval", "matplotlib"}


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize(("stage", "name"), ROW_METHODS)
def test_row_methods_keep_their_contract_and_give_the_same_twice(stage, name, score):
    result = apply(stage, name, score)
    checks = {"select": once, "copies": checked_copies, "order": permutation, "schedule": phases_of}
    checks[load_method(stage, name)[0].__name__](result, len(score))
    np.testing.assert_array_equal(result, apply(stage, name, score))


@pytest.mark.parametrize("name", REWRITING)
def test_what_rewrites_changes_texts_alone_and_gives_the_same_twice(name, tmp_path):
    texts = [
        "Home | About | Help\nA page with more than ten words that say a thing or two. \u2028 So it is.\n© 2020",
        "short",
        "",
    ]
    lines = [
        f'{{"big": {2**60 + number}, "text":{json.dumps(text)} , "new": 1e5}}' for number, text in enumerate(texts)
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    results = []
    for out in ("one.jsonl", "two.jsonl"):
        assert main(SELECTION, [str(tmp_path / "in.jsonl"), str(tmp_path / out), name]) == 0
        results.append((tmp_path / out).read_bytes())
    assert results[0] == results[1]
    before = {json.loads(line)["big"]: line for line in lines}
    changed = 0
    for line in results[0].decode().split("\n")[:-1]:
        row = json.loads(line)
        old = before[row["big"]]
        head, tail = old.split(json.dumps(json.loads(old)["text"]))
        assert line == head + json.dumps(row["text"], ensure_ascii=False) + tail or line == old
        changed += line != old
    assert changed == 1


@pytest.mark.parametrize("bad", ["null", '"3"', "true", "NaN", "Infinity", "1e999", "[1]"])
@pytest.mark.parametrize(
    ("stage", "name"), [p for p in ROW_METHODS if "score" in columns_of(load_method(*p.values)[0])]
)
def test_bad_scores_never_reach_a_method(stage, name, bad, tmp_path, capsys):
    source = tmp_path / "in.jsonl"
    good = '{"text": "x", "score": 1, "duplicate_count": 1}\n'
    source.write_text(f'{good * 4}{{"text": "x", "score": {bad}, "duplicate_count": 1}}\n{good}')
    words = [str(source), str(tmp_path / "out.jsonl"), name, *(["direction=higher"] if stage is SELECTION else [])]
    assert main(stage, words) == 2
    assert "in.jsonl:5: score is" in capsys.readouterr().err.split("\n")[-2]
    assert main(stage, [*words, "on_bad_row=drop"]) == 0
    assert "dropped 1 bad rows" in capsys.readouterr().out
    assert set((tmp_path / "out.jsonl").read_text().split("\n")) == {good[:-1], ""}


@pytest.fixture(scope="module")
def small_calls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small_calls")
    golden.write_inputs(folder)
    return folder


@pytest.mark.parametrize("name", method_names(SCORING.name))
def test_what_a_scorer_writes_has_one_type_a_field_and_a_direction_where_it_is_declared(name, small_calls, monkeypatch):
    monkeypatch.chdir(small_calls)
    golden.result(golden.Call(SCORING, name))
    before, after = (
        [json.loads(line) for line in (small_calls / file).read_text().split("\n")[:-1]]
        for file in ("in.jsonl", f"data_scoring-{name}.jsonl")
    )
    manifest = json.loads((small_calls / f"data_scoring-{name}.jsonl.manifest.json").read_text())
    fields = [field for field in after[0] if field not in before[0]]
    assert fields == ["new", *manifest["extra"]] and len(before) == len(after)
    for old, row in zip(before, after, strict=True):
        assert list(row.items())[: len(old)] == list(old.items()) and list(row)[len(old) :] == fields
    for field in fields:
        [kind] = {type(row[field]) for row in after}
        assert kind in ((int, float) if field in manifest["directions"] else (int, float, str, bool)), field
        assert set(manifest["extra"].get(field, manifest["score"])) >= (
            {"0", "1"} if kind in (int, float) else {"rows"}
        )
    assert manifest["directions"].get("new") == better_of(load_method(SCORING, name)[0].higher_is_better)
    assert manifest["directions"].keys() <= set(fields)  # the input has no manifest that declares others


def test_every_method_has_a_test():
    for stage in STAGES:
        for name in method_names(stage.name):
            folder = REPOSITORY / "tests" / stage.name
            assert list(folder.glob(f"test_{name.replace('-', '_')}*.py")), f"no test of {name} in {folder}"
