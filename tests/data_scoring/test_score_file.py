"""Scores written beside the text: a row for each row of the corpus, bound to it, and read by what comes after."""

import json

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.calls.stage import Call
from data_common.files.fingerprint import fingerprint
from data_common.files.manifest import read_manifest
from data_common.messages.errors import UserError
from data_ordering.entry import STAGE as ORDERING
from data_scoring import entry
from data_scoring.scorer import BaseScorer
from data_selection.entry import STAGE as SELECTION

TEXTS = ["one two", "a", "seven words are in this text here", "x y", "z z z z"]
ROWS = [json.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(TEXTS)]


class Scorer(BaseScorer):
    """Number of characters; a text of one is too short."""

    higher_is_better = False

    def score(self, texts, work):
        return np.array([len(text) if len(text) > 1 else np.nan for text in texts], float)


class Typed(Scorer):
    """Whole numbers of more digits than floating point has, and words, beside it."""

    def __init__(self):
        super().__init__()
        self.extra_directions = {"hash": None, "kind": None, "odd": None}

    def score(self, texts, work):
        length = np.array([len(text) for text in texts])
        self.extra = {"hash": 2**60 + length, "kind": np.array([text[0] for text in texts]), "odd": length % 2 == 1}
        return length


class Chunking(Scorer):
    """Scores other rows than those of the corpus."""

    rewrites = True


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(ROWS)
    return tmp_path


def write(lines):
    with open("in.jsonl", "w", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))


def call(out, scorer=Scorer, **keys):
    entry.run(Call("data_scoring", ("in.jsonl", out), "lengths", scorer, {}, keys), **keys)


def score(out, scorer=Scorer, **keys):
    call(out, scorer, **({"score_file": True, "on_short": "drop"} | keys))
    with open(out, "rb") as file:
        return np.load(file) if out.endswith(".npy") else [json.loads(line) for line in file]


def test_an_array_has_nan_where_a_row_has_no_score(folder):
    np.testing.assert_array_equal(score("s.npy"), [7, np.nan, 33, 3, 7])
    manifest = read_manifest("s.npy")
    known = {name: fingerprint("in.jsonl")[name] for name in ("bytes", "xxh3")}
    assert [manifest["corpus"][0][name] for name in known] == list(known.values())
    assert (manifest["fields"], manifest["directions"]) == (["score"], {"score": "lower"})
    assert manifest["score"]["1"] == 33 and (manifest["rows_in"], manifest["rows_out"]) == (5, 4)


def test_lines_have_id_and_fields_and_whole_numbers_all_their_digits(folder):
    write([*ROWS, '{"text": "no id"}', '{"text": "b", "id": [1]}', f'{{"id": {10**30}, "text": "big"}}'])
    rows = score("s.jsonl", Typed)
    assert rows[0] == {"id": "d0", "score": 7, "hash": 2**60 + 7, "kind": "o", "odd": True}
    assert list(rows[5]) == list(rows[6]) == ["score", "hash", "kind", "odd"] and rows[7]["id"] == 10**30
    assert [row["score"] for row in rows] == [*map(len, TEXTS), 5, 1, 3]


def test_a_whole_number_stays_one_in_an_array(folder):
    class Whole(Scorer):
        def score(self, texts, work):
            return 2**60 + np.arange(len(texts))

    found = score("s.npy", Whole)
    assert found.dtype == np.int64 and found.tolist() == [2**60 + i for i in range(5)]


def test_dropped_rows_keep_their_place_and_blank_lines_have_none(folder):
    write([ROWS[0], "", "broken", ROWS[1], '{"id": "x", "text": 3}', "  ", *ROWS[2:]])
    values = score("s.npy", on_bad_row="drop")
    np.testing.assert_array_equal(values, [7, np.nan, np.nan, np.nan, 33, 3, 7])
    rows = score("s.jsonl", on_bad_row="drop")
    assert [row["score"] for row in rows] == [7, None, None, None, 33, 3, 7]
    assert [row.get("id") for row in rows] == ["d0", None, "d1", None, "d2", "d3", "d4"]
    for path in ("s.npy", "s.jsonl"):
        words = ["top-k", "k=2", f"scores={path}", "on_bad_row=drop"]
        assert main(SELECTION, ["in.jsonl", "out.jsonl", *words]) == 0
        assert (folder / "out.jsonl").read_text().split("\n")[:-1] == [ROWS[0], ROWS[3]]


def test_short_rows_may_get_the_worst_score(folder):
    np.testing.assert_array_equal(score("s.npy", on_short="worst"), [7, 33, 33, 3, 7])


def test_a_field_of_the_text_is_no_hindrance(folder):
    write([line[:-1] + ', "score": 1}' for line in ROWS])
    before = (folder / "in.jsonl").read_bytes()
    assert len(score("s.npy")) == 5 and (folder / "in.jsonl").read_bytes() == before


@pytest.mark.parametrize("kind", ["npy", "jsonl", "jsonl.zst"])
def test_the_chain_is_that_of_scores_in_the_text(folder, kind):
    write([ROWS[0], *ROWS[2:]])
    call("scored.jsonl")
    call(f"s.{kind}", score_file=True)
    for source, name, words in (("scored.jsonl", "a", []), ("in.jsonl", "b", [f"scores=s.{kind}"])):
        assert main(SELECTION, [source, f"{name}.jsonl", "top-k", "k=3", *words]) == 0
        more = [f"scores={name}.jsonl.scores.{kind.removesuffix('.zst')}"] if words else []
        assert main(ORDERING, [f"{name}.jsonl", f"{name}{name}.jsonl", "sorting", *more]) == 0
    plain = [json.loads(line) for line in (folder / "aa.jsonl").read_text().split("\n")[:-1]]
    beside = [json.loads(line) for line in (folder / "bb.jsonl").read_text().split("\n")[:-1]]
    assert [row["id"] for row in plain] == ["d3", "d0", "d4"]
    assert beside == [{"id": row["id"], "text": row["text"]} for row in plain]


@pytest.mark.parametrize(
    ("out", "scorer", "keys", "message"),
    [
        ("s.txt", Scorer, {}, "OUT=s.txt must end in .npy or .jsonl, .jsonl.gz, .jsonl.zst"),
        ("in.jsonl", Scorer, {}, "OUT=in.jsonl is IN, and its rows would be lost"),
        (
            "s.npy",
            Typed,
            {},
            "OUT=s.npy holds one number a row, and score, hash, kind, odd are written",
        ),
        ("s.npy", Chunking, {}, "the scores are of chunks, and not of the rows of IN (granularity=chunk)"),
        ("s.jsonl", Scorer, {"id_field": "score"}, "id_field=score: the method writes a field of that name"),
    ],
)
def test_mistakes(folder, out, scorer, keys, message):
    with pytest.raises(UserError) as error:
        score(out, scorer, **keys)
    assert message in str(error.value)


def test_an_array_without_the_key_is_a_mistake_that_names_it(folder, capsys):
    assert main(entry.STAGE, ["in.jsonl", "s.npy", "combine", "fields=[a]", "--dry-run"]) == 2
    assert "scoring with score_file=true writes scores alone" in capsys.readouterr().err
