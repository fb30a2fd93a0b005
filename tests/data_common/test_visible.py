"""Escape sequences and direction overrides of other people's text are spelled out wherever it is shown."""

import json
import sys
import unicodedata

import pytest
import yaml

from data_common.calls.cli import main
from data_common.messages.errors import UserError, exit_code
from data_common.messages.visible import IN_LINES, IN_PROGRESS, brief, in_table, visible
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from model_eval import report
from model_eval.compare.entry import run as compare

JOINERS = "\u200c\u200d"  # Persian, Hindi and emoji fall apart without them
NUMBER_SIGNS = {
    *range(0x600, 0x606),
    0x6DD,
    0x70F,
    0x890,
    0x891,
    0x8E2,
    0x110BD,
    0x110CD,
    *range(0x13430, 0x13440),
}  # seen
EVIL = "\x1b]0;owned\x07\x1b[2Jrow\x9b1m\u202ecod.exe\u2066\u200b\ufeff\U000e0041\r\nerror: forged"


def test_every_character_that_is_hidden_or_acts_is_spelled():
    for code in {*range(sys.maxunicode + 1)} - NUMBER_SIGNS - {*map(ord, JOINERS)}:
        category = unicodedata.category(chr(code))
        if category != "Cn":  # a number without a character
            assert (visible(chr(code)) != chr(code)) == (category in ("Cc", "Cf", "Cs", "Zl", "Zp")), hex(code)
    assert visible("".join(map(chr, NUMBER_SIGNS)) + JOINERS) == "".join(map(chr, NUMBER_SIGNS)) + JOINERS
    assert visible("\x1b\x07\x9b\n\u202e\udcff\U000e0041") == r"\x1b\x07\x9b\n\u202e\udcff\U000e0041"
    assert visible("naïve 日本語 می‌خواهم 👩‍🚀 a\\nb") == "naïve 日本語 می‌خواهم 👩‍🚀 a\\nb"
    assert in_table("a|b\n") == r"a\|b\n" and len(brief("a" * 10_000)) < 300


def test_lines_and_bars_keep_what_makes_them():
    assert not IN_LINES.search("a\n\tb") and IN_LINES.search("\r")
    assert not IN_PROGRESS.search("\r 50%\x1b[A\n") and IN_PROGRESS.search("\x1b[2J")


def harmless(text):
    return text and not IN_LINES.search(text) and "\nerror: forged" not in text


def test_messages_notes_and_libraries(capsys):
    def work():
        print("of a library:", EVIL[:-20])
        raise UserError(f"{EVIL}: is no name", "a second line")

    assert exit_code(work) == 2
    said = capsys.readouterr()
    assert harmless(said.out) and harmless(said.err) and said.err.endswith(": is no name\n  a second line\n")


def test_summaries_and_reports_of_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / EVIL).mkdir()
    rows = [{"text": f"{EVIL} {n}", "a": n, "group": EVIL} for n in range(3)]
    source, scored, picked, ordered = (f"{EVIL}/{name}.jsonl" for name in ("in", "scored", "picked", "ordered"))
    (tmp_path / source).write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    field = f"score_field={json.dumps(EVIL)}"
    calls = [
        (SCORING, [source, scored, "combine", "fields=[a]", "lower_is_better=[a]", field]),
        (SELECTION, [scored, picked, "top-k", "k=2", "group_field=group", field]),
        (ORDERING, [scored, ordered, "sorting", field]),
        (ORDERING, [scored, f"{EVIL}/new.jsonl", "sorting", field, "--dry-run"]),
        (ORDERING, [scored, ordered, "sorting", field]),
    ]
    for stage, words in calls:
        assert main(stage, words) == 0
        said = capsys.readouterr()
        assert harmless(said.out) and not IN_LINES.search(said.err.replace("\r", "")), words
    written = (tmp_path / f"{scored}.work" / "report.txt").read_text(encoding="utf-8")
    assert harmless(written) and "\\u202ecod.exe" in written
    for stage, words in ((SELECTION, [source, EVIL, EVIL]), (ORDERING, [EVIL, ordered, "sorting"]), (ORDERING, [EVIL])):
        assert main(stage, words) == 2
        assert harmless(error := capsys.readouterr().err) and error.count("\n") == 1


def test_tables_of_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **options: None)
    result = {"metric": f"acc{EVIL}", "value": 0.5, "stderr": 0.1, "n": 10}
    for name in ("a", "b"):
        content = {"model": f"m/{name}{EVIL}", "selection_ratio": 0.5, "tasks": {f"t|{EVIL}": result}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    assert exit_code(lambda: compare(["a.yaml", "b.yaml", f"output={EVIL}"])) == 0
    shown = capsys.readouterr().out
    assert harmless(shown) and "| t\\|\\x1b" in shown
    with open(f"{EVIL}.csv", encoding="utf-8", newline="") as file:
        assert harmless(file.read().replace("\r\n", "\n"))
    assert report.main([f"{EVIL}.md", f"arm{EVIL}=a.yaml"]) == 0
    assert harmless(capsys.readouterr().out) and harmless((tmp_path / f"{EVIL}.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("key", ["select", "on_bad_row", "score_field"])
def test_values_in_messages(key, capsys):
    assert main(ORDERING, ["a", "b", "sorting", f"{key}={EVIL}", f"{EVIL}=1"]) == 2
    error = capsys.readouterr().err
    assert harmless(error) and error.count("\n") == 1
