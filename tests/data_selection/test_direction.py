"""The direction of a score: declared by scoring, carried by manifests, never guessed for a loss."""

import json

import pytest

from data_common.calls.cli import main
from data_common.files.atomic import manifest_path
from data_common.files.manifest import read_manifest
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE
from tests.records import declare


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"ppl": {i}, "score": {i}}}\n' for i in (5, 1, 3)))
    return path


def kept(rows, *extra, name="top-k", expected=0):
    target = rows.with_name("out.jsonl")
    assert main(STAGE, [str(rows), str(target), name, *extra]) == expected
    return [json.loads(line)["score"] for line in target.read_text().split("\n")[:-1]] if not expected else None


def test_manifest_decides(rows):
    declare(rows, {"ppl": "lower"})
    assert kept(rows, "k=2", "score_field=ppl") == [1, 3]
    assert kept(rows, "k=2", "score_field=ppl", "direction=higher") == [5, 3]
    assert kept(rows, "threshold=3", "score_field=ppl", name="threshold") == [1, 3]


def test_the_direction_travels_onward(rows):
    declare(rows, {"ppl": "lower"})
    middle = rows.with_name("middle.jsonl")
    assert main(ORDERING, [str(rows), str(middle), "sorting", "score_field=ppl"]) == 0
    assert [json.loads(line)["ppl"] for line in middle.read_text().split("\n")[:-1]] == [1, 3, 5]
    assert kept(middle, "k=1", "score_field=ppl") == [1]


CURE = "set direction=higher (the highest are kept) or direction=lower"


@pytest.mark.parametrize("field", ["score", "ppl", "perplexity_of_mine", "glossary", "meta.score"])
@pytest.mark.parametrize("words", [["k=1"], ["threshold=3"]])
def test_without_manifest_nothing_is_guessed(rows, capsys, field, words):
    rows.write_text(json.dumps({field: 4, "score": 1, "meta": {"score": 4}}) + "\n")
    name = "top-k" if words == ["k=1"] else "threshold"
    kept(rows, *words, f"score_field={field}", name=name, expected=2)
    error = capsys.readouterr().err
    assert f"is a higher or a lower {field} better?" in error and CURE in error and error.count("\n") == 1
    kept(rows, *words, f"score_field={field}", "direction=higher", name=name)


def test_the_direction_may_stand_in_the_yaml(rows):
    config = rows.with_name("mine.yaml")
    config.write_text("k: 1\ndirection: lower\n")
    target = rows.with_name("out.jsonl")
    assert main(STAGE, [str(rows), str(target), "top-k", str(config)]) == 0
    assert json.loads(target.read_text())["score"] == 1


METHODS = {
    "kenlm": "lower",
    "perplexity": "lower",
    "lqs": "higher",
    "pds": "higher",
    "min_k": "higher",
    "min-k": "higher",
}


@pytest.mark.parametrize("field", [*METHODS, "scores.kenlm"])
def test_a_field_that_is_named_after_a_method_has_its_direction(rows, field):
    value = (lambda n: {"scores": {"kenlm": n}}) if "." in field else (lambda n: {field: n})
    rows.write_text("".join(json.dumps(value(n) | {"score": n}) + "\n" for n in (5, 1, 3)))
    better = METHODS[field.split(".")[-1]]
    assert kept(rows, "k=1", f"score_field={field}") == [5 if better == "higher" else 1]


def as_guessed_once(target, **config):
    """A record of the version that took higher scores as better where nothing told it."""
    record = manifest_path(target)
    content = json.loads(record.read_text())
    content["config"] |= config
    content |= {"directions": {name: one for name, one in content["directions"].items() if name == "new"}}
    record.write_text(json.dumps(content | {"method_versions": {}}))


def test_what_was_guessed_once_is_not_up_to_date(rows, capsys):
    rows.write_text("".join(json.dumps({"kenlm": n, "score": n}) + "\n" for n in (5, 1, 3)))
    target = rows.with_name("out.jsonl")
    for field in ("score", "kenlm"):
        keys = ["k=1", f"score_field={field}"]
        assert kept(rows, *keys, "direction=higher") == [5]
        as_guessed_once(target, direction="auto")
        if field == "score":
            kept(rows, *keys, expected=2)
            assert (
                "is a higher or a lower score better?" in capsys.readouterr().err and '"score": 5' in target.read_text()
            )
        else:
            assert kept(rows, *keys) == [1]
            assert read_manifest(target)["directions"] == {"kenlm": "lower"}  # told onward
    assert kept(rows, *keys) == [1] and "up to date" in capsys.readouterr().out


def test_what_was_combined_by_a_guess_is_not_up_to_date(rows, capsys):
    rows.write_text("".join(json.dumps({"text": "x", "kenlm": n, "mine": n}) + "\n" for n in (5, 1, 3)))
    target = rows.with_name("out.jsonl")
    for field, code in (("mine", 2), ("kenlm", 0)):
        words = [str(rows), str(target), "combine", f"fields=[{field}]", "score_field=new"]
        assert main(SCORING, [*words, "lower_is_better=[]"]) == 0
        as_guessed_once(target, lower_is_better=None)
        assert main(SCORING, words) == code
        shown = capsys.readouterr()
        assert "higher ones were taken for it" in shown.out and ("are higher or lower" in shown.err) == (code == 2)


def test_joined_shards_of_a_scorer_lose_their_direction_and_are_refused(rows, capsys):
    """kenlm writes to `score`, too; the lowest are the best, and nothing but the manifest says so."""
    declare(rows, {"score": "lower"})
    assert kept(rows, "k=1") == [1]
    joined = rows.with_name("all.jsonl")
    joined.write_text(rows.read_text())
    kept(joined, "k=1", expected=2)
    words = [str(joined), str(rows.with_name("ordered.jsonl")), "sorting", "select=top-k", "select.k=1"]
    assert main(ORDERING, words) == 2
    assert "set select.direction=higher" in capsys.readouterr().err
    assert main(ORDERING, [*words, "select.direction=lower"]) == 0


def test_combining_needs_every_direction(rows, capsys):
    rows.write_text("".join(json.dumps({"text": "x", "kenlm": n, "mine": n}) + "\n" for n in (5, 1, 3)))
    words = [str(rows), str(rows.with_name("out.jsonl")), "combine", "score_field=new"]

    def best():
        lines = rows.with_name("out.jsonl").read_text().split("\n")[:-1]
        return max(map(json.loads, lines), key=lambda row: row["new"])["mine"]

    assert main(SCORING, [*words, "fields=[kenlm]"]) == 0 and best() == 1  # a lower perplexity is better
    assert main(SCORING, [*words, "fields=[kenlm,mine]"]) == 2
    assert "as in lower_is_better=[mine]; [] where none is" in capsys.readouterr().err
    assert main(SCORING, [*words, "fields=[mine]", "lower_is_better=[]"]) == 0 and best() == 5
    assert main(SCORING, [*words, "fields=[mine]", "lower_is_better=[mine]"]) == 0 and best() == 1


def test_manifest_of_another_file_content_is_not_trusted(rows):
    declare(rows, {"score": "lower"})
    rows.write_text(rows.read_text() + '{"ppl": 9, "score": 9}\n')
    kept(rows, "k=1", expected=2)


def test_shards_declare_for_themselves_and_must_agree(rows, capsys):
    other = rows.with_name("in2.jsonl")
    other.write_text('{"ppl": 0, "score": 0}\n')
    declare(rows, {"ppl": "lower"})
    declare(other, {"ppl": "lower"})
    target = rows.with_name("out.jsonl")
    words = [str(rows.with_name("in*.jsonl")), str(target), "top-k", "k=1", "score_field=ppl"]
    assert main(STAGE, words) == 0
    assert target.read_text() == other.read_text()
    assert json.loads(target.with_name("out.jsonl.manifest.json").read_text())["directions"] == {"ppl": "lower"}
    declare(other, {"ppl": "higher"})
    assert main(STAGE, words) == 2
    assert "disagree on whether a higher ppl is better" in capsys.readouterr().err
