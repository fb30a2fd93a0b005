"""Further fields of a scorer: where they are written, their directions, short rows, names that are taken."""

import json

import numpy as np
import pytest

from data_common.calls.stage import Call
from data_common.files.manifest import read_manifest
from data_common.messages.errors import UserError
from data_scoring import entry
from data_scoring.scorer import BaseScorer


class Scorer(BaseScorer):
    """Number of characters; words and vowels beside it. A text of one character is too short."""

    higher_is_better = False

    def __init__(self):
        super().__init__()
        self.extra_directions = {"words": "higher", "vowels": "lower"}

    def score(self, texts, work):
        length = np.array([len(text) if len(text) > 1 else np.nan for text in texts], float)
        words = np.array([len(text.split()) for text in texts]) + 0 * length
        vowels = np.array([sum(letter in "aeiou" for letter in text) for text in texts]) + 0 * length
        self.extra = {"vowels": vowels, "words": words}
        return length


def run(folder, **keys):
    call = Call("data_scoring", (str(folder / "in.jsonl"), str(folder / "out.jsonl")), "lengths", Scorer, {}, keys)
    entry.run(call, **keys)
    return (folder / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]


def write(folder, *lines):
    (folder / "in.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def test_fields_come_after_the_score_in_the_order_of_their_declaration(tmp_path, capsys):
    write(tmp_path, '{"text": "one two", "n": 1.50}', '{"z":1e3 ,"text": "aé"}')
    assert run(tmp_path) == [
        '{"text": "one two", "n": 1.50, "score": 7.0, "words": 2.0, "vowels": 3.0}',
        '{"z":1e3 ,"text": "aé", "score": 2.0, "words": 1.0, "vowels": 1.0}',
    ]
    manifest = read_manifest(tmp_path / "out.jsonl")
    assert manifest["directions"] == {"score": "lower", "words": "higher", "vowels": "lower"}
    assert (
        manifest["score"]["1"] == 7 and manifest["extra"]["words"]["0"] == 1 and manifest["extra"]["vowels"]["1"] == 3
    )
    assert "  words: min 1, median 1.5, max 2; higher is better\n" in capsys.readouterr().out


def test_short_rows_get_the_worst_of_each_field_or_none(tmp_path):
    texts = ["a", "one two", "", "aeiou"]
    write(tmp_path, *(json.dumps({"text": text}) for text in texts))
    rows = [json.loads(line) for line in run(tmp_path, on_short="worst")]
    fields = [[row[field] for row in rows] for field in ("score", "words", "vowels")]
    assert fields == [[7, 7, 7, 5], [1, 2, 1, 1], [5, 3, 5, 5]]
    assert [json.loads(line)["text"] for line in run(tmp_path, on_short="drop")] == ["one two", "aeiou"]
    with pytest.raises(UserError, match=r"in\.jsonl:3: no text to score"):
        run(tmp_path, on_short="error")


def test_a_field_that_is_there_already_is_an_error_or_replaced_in_its_place(tmp_path):
    write(tmp_path, '{"text": "one"}', '{"words": [0], "text": "one two"}')
    with pytest.raises(UserError, match=r"in\.jsonl:2: words is there already \(overwrite=true replaces it\)"):
        run(tmp_path)
    assert not (tmp_path / "out.jsonl").exists()
    lines = run(tmp_path, overwrite=True)
    assert lines[1] == '{"words": 2.0, "text": "one two", "score": 7.0, "vowels": 3.0}'


def test_the_score_cannot_have_the_name_of_another_field(tmp_path):
    write(tmp_path, '{"text": "one"}')
    with pytest.raises(UserError, match="score_field=words: the method writes another field of that name"):
        run(tmp_path, score_field="words")


@pytest.mark.parametrize(
    ("found", "extra", "message"),
    [
        (None, {}, "no score for each of 2 texts"),
        ([1.0], {}, "no score for each of 2 texts"),
        ([1.0, 2.0], {"words": [1.0, 2.0]}, "name other fields"),
    ],
)
def test_a_scorer_that_breaks_the_contract_is_told_so(found, extra, message, tmp_path, monkeypatch):
    def score(self, texts, work):
        self.extra = {name: np.array(values) for name, values in extra.items()}
        return None if found is None else np.array(found)

    monkeypatch.setattr(Scorer, "score", score)
    write(tmp_path, '{"text": "one"}', '{"text": "two"}')
    with pytest.raises(AssertionError, match=message):
        run(tmp_path)


HASHES = [2**60, 2**60 + 1, -(2**63)]


@pytest.mark.parametrize(
    ("hashes", "kind"),
    [(HASHES, np.int64), ([1, 2**63, 2**64 - 1], np.uint64), ([2**64, 2**64 + 1, -(10**30)], object)],
)
@pytest.mark.parametrize("on_short", ["drop", "worst"])
def test_whole_numbers_stay_whole_numbers(hashes, kind, on_short, tmp_path, monkeypatch):
    def score(self, texts, work):
        self.extra = {"vowels": np.array([*hashes[:2], 5, hashes[2]], kind), "words": np.array([1.0, 2, np.nan, 3])}
        return np.array([1.0, 2, np.nan, 3])

    monkeypatch.setattr(Scorer, "score", score)
    write(tmp_path, *(json.dumps({"text": text}) for text in ("aa", "bb", "", "c", "dd")))
    rows = [json.loads(line) for line in run(tmp_path, on_short=on_short)]
    worst = [max(hashes)] * 2 if on_short == "worst" else []  # of vowels the lower are better
    found = [row["vowels"] for row in rows]
    assert found == [*hashes[:2], *worst, hashes[2]] and all(type(value) is int for value in found)
    assert read_manifest(tmp_path / "out.jsonl")["extra"]["vowels"]["1"] == float(max(hashes))


def test_a_score_of_whole_numbers_has_no_short_row_but_those_without_text(tmp_path, monkeypatch):
    def score(self, texts, work):
        self.extra = {"vowels": np.array([1, 2]), "words": np.array([3, 2**60 + 1])}
        return np.array([0, 2**60 + 1])

    monkeypatch.setattr(Scorer, "score", score)
    write(tmp_path, *(json.dumps({"text": text}) for text in ("aa", "", "bb")))
    assert run(tmp_path, on_short="drop") == [
        '{"text": "aa", "score": 0, "words": 3, "vowels": 1}',
        f'{{"text": "bb", "score": {2**60 + 1}, "words": {2**60 + 1}, "vowels": 2}}',
    ]
    with pytest.raises(UserError, match=r"in\.jsonl:2: no text to score"):
        run(tmp_path, on_short="error")


class Typed(BaseScorer):
    """A field of every kind, none of which is better in one way. A text of one character is too short."""

    def __init__(self):
        super().__init__()
        self.extra_directions = dict.fromkeys(["kind", "long", "count", "share"])

    def score(self, texts, work):
        score = np.array([len(text) if len(text) > 1 else np.nan for text in texts], float)
        self.extra = {
            "kind": np.array([f"{text[0]}\n\u2028" for text in texts]),
            "long": np.array([len(text) > 2 for text in texts]),
            "count": np.array([2**60 + len(text) for text in texts]),
            "share": score / 8,
        }
        return score


def typed(folder, scorer=Typed, **keys):
    call = Call("data_scoring", (str(folder / "in.jsonl"), str(folder / "out.jsonl")), "typed", scorer, {}, keys)
    entry.run(call, **keys)
    return [json.loads(line) for line in (folder / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]


def test_strings_booleans_and_counts_stay_what_they_are_and_have_no_direction(tmp_path, capsys):
    write(tmp_path, '{"text": "aé"}', '{"text": "bcd"}')
    assert typed(tmp_path) == [
        {"text": "aé", "score": 2.0, "kind": "a\n\u2028", "long": False, "count": 2**60 + 2, "share": 0.25},
        {"text": "bcd", "score": 3.0, "kind": "b\n\u2028", "long": True, "count": 2**60 + 3, "share": 0.375},
    ]
    manifest = read_manifest(tmp_path / "out.jsonl")
    assert manifest["directions"] == {"score": "higher"}
    assert manifest["extra"]["kind"] == {"distinct": 2, "rows": {"a\n\u2028": 1, "b\n\u2028": 1}}
    assert manifest["extra"]["long"] == {"distinct": 2, "rows": {"false": 1, "true": 1}}
    assert manifest["extra"]["share"]["1"] == 0.375
    out = capsys.readouterr().out
    assert "  long: false 1, true 1\n" in out and "  share: min 0.25, median 0.3125, max 0.375\n" in out


def test_of_a_row_too_short_they_are_null_unless_the_scorer_knows_them(tmp_path, monkeypatch):
    write(tmp_path, *(json.dumps({"text": text}) for text in ("ab", "", "c", "def")))
    rows = typed(tmp_path, on_short="worst")
    nothing = {"score": 2.0, "kind": None, "long": None, "count": None, "share": None}
    assert [{name: row[name] for name in nothing} for row in rows[1:3]] == [nothing] * 2
    assert rows[3]["count"] == 2**60 + 3 and rows[3]["long"] is True
    assert read_manifest(tmp_path / "out.jsonl")["extra"]["kind"]["distinct"] == 2
    assert [row["text"] for row in typed(tmp_path, on_short="drop")] == ["ab", "def"]

    class Known(Typed):
        def score(self, texts, work):
            self.of_short = {"score": -1.0, "kind": "nothing at all", "long": False, "count": 0, "share": 0.5}
            return super().score(texts, work)

    rows = typed(tmp_path, Known, on_short="worst", overwrite=True)
    known = {"score": -1.0, "kind": "nothing at all", "long": False, "count": 0, "share": 0.5}
    assert [{name: row[name] for name in known} for row in rows[1:3]] == [known] * 2


def test_a_field_without_direction_forgets_the_one_of_the_field_that_it_replaces(tmp_path):
    write(tmp_path, '{"text": "one two"}')
    run(tmp_path)
    (tmp_path / "out.jsonl").replace(tmp_path / "in.jsonl")
    (tmp_path / "out.jsonl.manifest.json").rename(tmp_path / "in.jsonl.manifest.json")

    class Words(Typed):
        def __init__(self):
            super().__init__()
            self.extra_directions = {"words": None}

        def score(self, texts, work):
            self.extra = {"words": np.array(["many"], object)}
            return np.array([1.0])

    [row] = typed(tmp_path, Words, overwrite=True)
    assert list(row.items()) == [("text", "one two"), ("score", 1.0), ("words", "many"), ("vowels", 3.0)]
    assert read_manifest(tmp_path / "out.jsonl")["directions"] == {"score": "higher", "vowels": "lower"}


@pytest.mark.parametrize("values", [["a", 1], [True, 2], [1.5, "a"], [[1], [2]], [b"a", b"b"]], ids=str)
def test_a_field_has_one_kind_of_values(values, tmp_path):
    class Mixed(Typed):
        def __init__(self):
            super().__init__()
            self.extra_directions = {"kind": None}

        def score(self, texts, work):
            column = np.empty(2, object)
            column[:] = values
            self.extra = {"kind": column}
            return np.array([1.0, 2.0])

    write(tmp_path, '{"text": "aa"}', '{"text": "bb"}')
    with pytest.raises(AssertionError, match="numbers are expected"):
        typed(tmp_path, Mixed)


@pytest.mark.parametrize("values", [["a", "b"], [True, False]], ids=str)
def test_what_is_better_in_one_way_is_a_number(values, tmp_path, monkeypatch):
    def score(self, texts, work):
        self.extra = {"words": np.array(values), "vowels": np.array([1, 2])}
        return np.array([1.0, 2.0])

    monkeypatch.setattr(Scorer, "score", score)
    write(tmp_path, '{"text": "aa"}', '{"text": "bb"}')
    with pytest.raises(AssertionError, match=r"numbers are expected, not (string|boolean)"):
        run(tmp_path)
