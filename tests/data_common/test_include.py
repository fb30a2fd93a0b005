"""`include: other.yaml`: the keys of another file, below those of the file that includes it."""

import json

import pytest
import yaml

from data_common.calls.cli import main
from data_common.calls.config import load_yaml
from data_selection.entry import STAGE as SELECTION


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"text": "x", "quality": value} for value in (3, 1, 2, 4)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "base").mkdir()
    (tmp_path / "base/rows.yaml").write_text("name: mine\nscore_field: quality\ndirection: lower\n")
    (tmp_path / "base/all.yaml").write_text("include: rows.yaml\nr: 0.25\non_bad_row: drop\n")
    return tmp_path


def config_of(capsys, *words):
    assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-r", *words, "--dry-run=keys"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_own_keys_win_over_included_ones_and_the_call_over_all(folder, capsys):
    (folder / "own.yaml").write_text("direction: higher\ninclude: base/all.yaml\n")
    expected = {"score_field": "quality", "direction": "higher", "r": 0.25, "on_bad_row": "drop"}
    assert load_yaml(folder / "own.yaml") == expected
    config = config_of(capsys, "own.yaml", "r=0.75")
    assert {key: config[key] for key in expected} == expected | {"r": 0.75}


def test_of_several_files_the_later_wins(folder):
    (folder / "more.yaml").write_text("r: 0.5\nk: null\n")
    (folder / "own.yaml").write_text("include: [base/all.yaml, more.yaml]\n")
    assert load_yaml(folder / "own.yaml")["r"] == 0.5
    (folder / "own.yaml").write_text("include: [more.yaml, base/all.yaml]\n")
    assert load_yaml(folder / "own.yaml")["r"] == 0.25


def test_paths_are_seen_from_the_file_and_links_of_files_are_no_other_files(folder, monkeypatch):
    (folder / "own.yaml").write_text("include: base/all.yaml\n")
    monkeypatch.chdir(folder / "base")
    assert load_yaml(folder / "own.yaml")["score_field"] == "quality"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"own": "include: none.yaml\n"}, "own.yaml: include: no configuration file none.yaml"),
        ({"own": "include: own.yaml\n"}, "own.yaml: include: own.yaml includes it, and so itself"),
        (
            {"own": "include: a.yaml\n", "a": "include: own.yaml\n"},
            "a.yaml: include: own.yaml includes it, and so itself",
        ),
        ({"own": "include: 3\n"}, "own.yaml: include: the path of a YAML file, or a list of them, is wanted"),
        ({"own": "include: ['']\n"}, "own.yaml: include: the path of a YAML file, or a list of them, is wanted"),
        ({"own": "include: a.yaml\n", "a": "r: [\n"}, "own.yaml: include: a.yaml:2: broken YAML"),
        ({"own": "include: a.yaml\n", "a": "rr: 1\n"}, "a.yaml: unknown key 'rr'; did you mean 'r'?"),
        ({"own": "include: a.yaml\n", "a": "r: 2\n"}, "a.yaml: r: 2 is not valid"),
        ({"own": 'include: "a\\0.yaml"\n'}, "own.yaml: include: a\\x00.yaml is no path"),
        ({"own": "include: ~/a.yaml\n"}, "own.yaml: include: ~/a.yaml is no path (~ stands for no folder here)"),
        (
            {"own": "include: a0.yaml\n"} | {f"a{depth}": f"include: a{depth + 1}.yaml\n" for depth in range(1500)},
            "a19.yaml: include: more than 20 files that include one another",
        ),
    ],
)
def test_a_fault_is_told_with_its_file(files, message, folder, capsys):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-r", "own.yaml"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_call_cannot_include(folder, capsys):
    assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-r", "include=base/all.yaml"]) == 2
    assert "unknown key 'include': it stands in a YAML file; a call names one file" in capsys.readouterr().err


def test_the_manifest_does_not_depend_on_how_keys_are_spread_over_files(folder, capsys):
    (folder / "own.yaml").write_text("include: base/all.yaml\n")
    (folder / "flat.yaml").write_text("score_field: quality\ndirection: lower\nr: 0.25\non_bad_row: drop\n")
    assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-r", "own.yaml"]) == 0
    assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-r", "flat.yaml"]) == 0
    assert "up to date" in capsys.readouterr().out
