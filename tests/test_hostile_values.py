"""Values, names and bytes that nobody expects: exit 2 with the key in one line, or they work; never a traceback."""

import json
import os
import subprocess
import sys
from typing import get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_common.calls.cli import main
from data_common.calls.config import REQUIRED
from data_common.calls.stage import REPOSITORY, keys_for, load_method
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from tests.data_common.test_yaml_text import FAULTS, bomb
from tests.test_contracts import METHODS

VALUES = [text for text, _ in FAULTS if "\0" not in text]  # which no word of a command line holds
VALUES += [
    "",
    " ",
    "2020-13-45",
    "[[]]",
    "[a, a]",
    "{a: b}",
    ".inf",
    "-.inf",
    ".nan",
    "1e999",
    "9" * 30,
    "a" * 5000,
    "a\nb",
]
VALUES += ['"\\ud800"', '"a\\0b"', "\u202e", "\x1b[31m", "'", '"', "\\", "..", "/", "a/" * 3000, "~", "=", "a=b"]
NAMES = ['a"b', "a\\b", "a\nb", "a\tb", "\x1b[31m", "\u202e", "\x7f", "'", " ", "é", "a=b", "-x"]


def words_of(stage, name, key, value):
    """A call with `key=value`, and something for each key that has no default."""
    method, _ = load_method(stage, name)
    given = {"select": "top-r"} if key.startswith("select.") else {}
    keys = [key for keys in keys_for(stage, method, given) for key in keys.values()]
    samples = {list: "[a]", dict: "{a: 1}"}
    needed = {key.name: samples.get(get_origin(key.type), "1") for key in keys if key.default is REQUIRED}
    needed |= {"model": "m"} if name in ("min-k", "perplexity", "color-filter") and stage is SCORING else {}
    needed |= {"prior_model": "m"} if name == "color-filter" else {}
    needed |= {"embedder": "m"} if name == "rds-plus" else {}
    paths = ["in.jsonl", "out.jsonl", "out"][: len(stage.paths)]
    return [*paths, name, *(f"{k}={v}" for k, v in (needed | given | {key: value}).items())]


def one_line(error: str, key: str) -> bool:
    return error.startswith("error: ") and error.endswith("\n") and error.count("\n") == 1 and key in error


@pytest.mark.parametrize(("stage", "name"), METHODS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_of_any_key(stage, name, data, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    method, _ = load_method(stage, name)
    keys = [key for keys in keys_for(stage, method, {"select": "top-r"}) for key in keys]
    key = data.draw(st.sampled_from(keys))
    value = data.draw(st.sampled_from(VALUES) | st.text(st.characters(exclude_characters="\0"), max_size=9))
    code = main(stage, [*words_of(stage, name, key, value), "--dry-run=keys"])
    said = capsys.readouterr()
    assert (code, said.err) == (0, "") or (code == 2 and one_line(said.err, key.removeprefix("select.")))
    assert len(said.err) < 4200 and len(said.out) < 50_000
    assert not any(sign in said.out + said.err for sign in "\x1b\u202e\udcff")


def test_a_value_is_cut_and_never_expanded(capsys):
    assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-r", f"r={bomb()}"]) == 2
    assert len(capsys.readouterr().err) < 400
    assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-r", f"score_field={bomb()}", "--dry-run=keys"]) == 0
    assert len(capsys.readouterr().out) < 1000


@pytest.mark.parametrize("name", NAMES)
def test_a_field_may_have_any_name(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({name: score, "group": {name: "ü"}}, ensure_ascii=False) for score in (1, 3, 2)]
    (tmp_path / "in.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    field = [f"score_field={json.dumps(name)}", "direction=higher", f"group_field={json.dumps('group.' + name)}"]
    assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-k", "k=2", *field]) == 0
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n") == [*rows[1:], ""]
    assert main(SELECTION, ["in.jsonl", "out.jsonl", "top-k", "k=2", *field]) == 0
    assert "up to date" in capsys.readouterr().out
    assert main(ORDERING, ["in.jsonl", "sorted.jsonl", "sorting", f"score_field={json.dumps(name + 'x')}"]) == 2
    error = capsys.readouterr().err
    assert one_line(error, "in.jsonl:1: ") and "is missing" in error and "\x1b" not in error


@pytest.mark.parametrize("name", [b"\xff", b"a\xe9 b", b"\xed\xa0\x80", b"new\nline", b"\x1b[31m", "\u202e".encode()])
def test_a_file_may_have_any_name(name, tmp_path, capsys):
    """Input, output, second output, folder, YAML, glob, manifest; prints are encoded strictly, as by most terminals."""
    name = os.fsdecode(name)
    folder = tmp_path / name
    folder.mkdir()
    source, target, rejects = (str(folder / f"{name}{part}.jsonl") for part in ("in", "out", "no"))
    with open(source, "w") as file:
        file.write('{"score": 1}\n{"score": 2}\n')
    (folder / "r.yaml").write_text("r: 0.5\n")
    words = [source, target, "top-r", str(folder / "r.yaml"), f"rejects={rejects}", "direction=higher"]

    def call(*words):
        code, said = main(SELECTION, list(words)), capsys.readouterr()
        assert not any(sign in said.out + said.err for sign in ("\x1b", "\u202e", "\udcff"))
        return code, said.out, said.err

    assert call(*words)[0] == 0
    with open(target + ".manifest.json", encoding="utf-8") as file:
        assert json.load(file)["inputs"]["data"][0]["path"] == source
    code, said, _ = call(*words)
    assert code == 0 and said.count("up to date") == 2
    assert call(str(folder), str(tmp_path / "all.jsonl"), "top-r", "direction=higher")[0] == 0
    assert call(f"{folder}/*out.jsonl", str(tmp_path / "globbed.jsonl"), "top-r", "direction=higher")[0] == 0
    for wrong in ([target + ".none", target, "top-r"], [source, target, name], [*words, name + "=1"]):
        code, _, error = call(*wrong)
        assert code == 2 and one_line(error, "error: ")
    for key in ("score_field", "group_field"):
        code, _, error = call(source, str(tmp_path / "other.jsonl"), "top-r", "direction=higher", f"{key}={name}")
        assert code == 2 and one_line(error, f"{key}: " if "\\udc" in ascii(name) else "is missing")


def test_bytes_that_are_no_text_in_a_process_of_its_own(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"score": 1}\n')
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "ascii:strict"}
    for stage, words in (("data_ordering", [b"sorting"]), ("data_selection", [b"top-r", b"direction=higher"])):
        command = [sys.executable, "-m", f"{stage}.entry", "in.jsonl", b"\xff\xe9.jsonl", *words]
        for flags in (["--dry-run"], []):
            done = subprocess.run([*command, *flags], env=environment, capture_output=True, cwd=tmp_path)
            assert (done.returncode, done.stderr) == (0, b"") and b"\\udcff" in done.stdout
        os.remove(os.fsencode(tmp_path) + b"/\xff\xe9.jsonl")
