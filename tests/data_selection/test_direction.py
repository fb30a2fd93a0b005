"""The direction of a score: declared by scoring, carried by manifests, never guessed for a loss."""

import json

import pytest

from common.cli import main
from common.manifest import Run
from data_ordering.entry import STAGE as ORDERING
from data_selection.entry import STAGE


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"ppl": {i}, "score": {i}}}\n' for i in (5, 1, 3)))
    return path


def kept(rows, *extra, name="top-k", expected=0):
    target = rows.with_name("out.jsonl")
    assert main(STAGE, [str(rows), str(target), name, *extra]) == expected
    return [json.loads(line)["score"] for line in target.read_text().split("\n")[:-1]] if not expected else None


def declare(rows, field, direction):
    Run("data_scoring", "fake", {}, {}, str(rows), {field: direction}).finish()


def test_manifest_decides(rows):
    declare(rows, "ppl", "lower")
    assert kept(rows, "k=2", "score_field=ppl") == [1, 3]
    assert kept(rows, "k=2", "score_field=ppl", "direction=higher") == [5, 3]
    assert kept(rows, "threshold=3", "score_field=ppl", name="threshold") == [1, 3]


def test_the_direction_travels_onward(rows):
    declare(rows, "ppl", "lower")
    middle = rows.with_name("middle.jsonl")
    assert main(ORDERING, [str(rows), str(middle), "sorting", "score_field=ppl"]) == 0
    assert [json.loads(line)["ppl"] for line in middle.read_text().split("\n")[:-1]] == [1, 3, 5]
    assert kept(middle, "k=1", "score_field=ppl") == [1]


def test_without_manifest_higher_with_a_warning(rows, capsys):
    assert kept(rows, "k=1") == [5]
    assert capsys.readouterr().err.count("warning: no manifest tells the direction of 'score'") == 1
    assert kept(rows, "threshold=3", name="threshold") == [5, 3]
    assert capsys.readouterr().err.count("warning: no manifest tells the direction of 'score'") == 1


@pytest.mark.parametrize("field", ["ppl", "perplexity", "nll", "mean_loss", "bpb", "kenlm-ppl"])
def test_without_manifest_a_loss_is_refused(rows, capsys, field):
    rows.write_text(json.dumps({field: 1, "score": 1}) + "\n")
    kept(rows, "k=1", f"score_field={field}", expected=2)
    assert "set direction=higher|lower" in capsys.readouterr().err
    kept(rows, "k=1", f"score_field={field}", "direction=lower")


def test_a_word_that_only_contains_a_loss_is_no_loss(rows):
    rows.write_text('{"glossary": 1, "score": 1}\n')
    kept(rows, "k=1", "score_field=glossary")


def test_manifest_of_another_file_content_is_not_trusted(rows):
    declare(rows, "score", "lower")
    rows.write_text(rows.read_text() + '{"ppl": 9, "score": 9}\n')
    assert kept(rows, "k=1") == [9]


def test_shards_declare_for_themselves_and_must_agree(rows, capsys):
    other = rows.with_name("in2.jsonl")
    other.write_text('{"ppl": 0, "score": 0}\n')
    declare(rows, "ppl", "lower")
    declare(other, "ppl", "lower")
    target = rows.with_name("out.jsonl")
    words = [str(rows.with_name("in*.jsonl")), str(target), "top-k", "k=1", "score_field=ppl"]
    assert main(STAGE, words) == 0
    assert target.read_text() == other.read_text()
    assert json.loads(target.with_name("out.jsonl.manifest.json").read_text())["directions"] == {"ppl": "lower"}
    declare(other, "ppl", "higher")
    assert main(STAGE, words) == 2
    assert "disagree on whether a higher ppl is better" in capsys.readouterr().err
