"""page-features: a page counted by hand, n-grams by brute force, hostile pages, the stage, mistakes."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_common.calls.cli import main
from data_scoring.entry import STAGE
from data_scoring.page_features.features import page_features
from data_scoring.page_features.method import FEATURES, STOP_WORDS, Scorer
from data_scoring.page_features.repetition import Words, ngram_characters
from data_scoring.page_features.rules import ALL, SETS
from data_selection.entry import STAGE as SELECTION

PAGE = "- The cat doesn't sleep.\n\nA cat, the #1 cat...\n\nThe end\nThe end\n"
GOOD = "\n".join(
    f"{name} went to the {place} and said that they have more to do with it than {other} of the town."
    for name, place, other in zip(
        ["Anna", "Boris", "Carla", "Dmitri", "Elena", "Fatima"],
        ["harbour", "market", "station", "library", "garden", "museum"],
        ["anybody", "somebody", "everyone", "neighbours", "strangers", "children"],
        strict=True,
    )
)


def of(page, **keys):
    found = page_features([page], keys.get("stop_words", STOP_WORDS))
    return {name: values[0] for name, values in found.items()}


def test_a_page_counted_by_hand():
    """Tokens: - The cat doesn't sleep . A cat , the # 1 cat ... The end The end; 13 words, 5 marks, 66 characters."""
    found = of(PAGE)
    assert found["words"] == 13 and found["mean_word_length"] == pytest.approx(
        (3 + 3 + 7 + 5 + 1 + 3 + 3 + 1 + 3 + 12) / 13
    )
    assert found["alphabetic_words"] == pytest.approx(12 / 18)
    assert found["stop_words"] == 1 and found["stop_word_share"] == pytest.approx(4 / 13)
    assert found["hashes_per_word"] == found["ellipses_per_word"] == pytest.approx(1 / 18)
    assert found["newlines_per_word"] == pytest.approx(6 / 18)
    assert found["mean_line_length"] == pytest.approx((24 + 20 + 7 + 7) / 4)
    assert found["bullet_lines"] == found["ellipsis_lines"] == pytest.approx(1 / 6)
    assert found["punctuated_lines"] == 0.5 and found["short_lines"] == 1
    assert found["duplicate_lines"] == pytest.approx(1 / 5)  # with the empty one behind the last line end
    assert len(PAGE) == 64 and found["duplicate_line_characters"] == pytest.approx(7 / 64)
    assert found["repeated_line_characters"] == pytest.approx(7 / 58)
    assert found["duplicate_paragraphs"] == found["duplicate_paragraph_characters"] == 0
    assert found["top_2gram"] == pytest.approx(2 * 7 / 64)  # The end
    assert found["top_3gram"] == pytest.approx(len("- The cat") / 64)  # none is there twice: the first one
    assert found["duplicate_5grams"] == 0
    assert found["c4_characters"] == pytest.approx(24 / 58) and found["c4_sentences"] == 1


@pytest.mark.parametrize(
    ("line", "kept", "sentences"),
    [
        ("One two three.", 1, 1),
        ('He said: "Who? Me." Then he left.', 1, 3),
        ("About 3.5 of them, e.g. this one.", 1, 1),
        ("One two three", 0, 0),
        ("One two three...", 0, 0),
        ("Two words.", 0, 0),
        ("Please enable JavaScript to see it.", 0, 0),
        ("By using it you accept our Privacy Policy.", 0, 0),
        ("A long one: " + "x" * 1001 + ".", 0, 0),
    ],
)
def test_lines_that_c4_keeps(line, kept, sentences):
    found = of(line)
    assert (found["c4_characters"], found["c4_sentences"]) == (kept, sentences)


def test_what_makes_c4_drop_a_page():
    assert of("It says lorem ipsum here.")["c4_lorem_ipsum"] and not of("lorem ipsum")["c4_lorem_ipsum"]
    assert of("Some code { is here.")["c4_curly_bracket"] and not of("{ code }")["c4_curly_bracket"]
    assert of("See the notes[12] of it.")["c4_characters"] == pytest.approx(20 / 24)


@pytest.mark.parametrize("end", ["\r\n", "\r", "\u2028", "\x85"])
def test_every_line_end_is_one(end):
    assert of(PAGE.replace("\n", end)) == of(PAGE)


def repeated(words, size):
    """(characters of the most frequent n-gram in all its places, of those that were there before), by loops."""
    grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    top = max(grams, key=grams.count, default=())  # the first of several
    seen, place, before = set(), 0, 0
    while place < len(grams):
        again = grams[place] in seen
        before += again * len("".join(grams[place]))
        seen.add(grams[place])
        place += size if again else 1
    return grams.count(top) * len(" ".join(top)), before


@given(
    st.lists(st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=40), min_size=1, max_size=5),
    st.sampled_from([1, 2**40]),
)
def test_ngrams_by_brute_force(pages, spread):
    """Pages do not see each other; numbers of words may be as large as they like."""
    words = [word for page in pages for word in page]
    numbers = np.array([len(word) * spread for word in words], np.int64)
    found = ngram_characters(Words(numbers, np.array([*map(len, pages)]), np.array([*map(len, words)], np.int64)))
    for size in (2, 3, 4):
        assert found[f"top_{size}gram"].tolist() == [repeated(page, size)[0] for page in pages]
    for size in range(5, 11):
        assert found[f"duplicate_{size}grams"].tolist() == [repeated(page, size)[1] for page in pages]


def test_blocks_of_pages_make_no_difference(monkeypatch):
    pages = [GOOD, PAGE, "x", GOOD + GOOD, PAGE * 3]
    whole = page_features(pages, STOP_WORDS)
    monkeypatch.setattr("data_scoring.page_features.features.NGRAM_WORDS", 5)
    for name, values in page_features(pages, STOP_WORDS).items():
        np.testing.assert_array_equal(values, whole[name])
        np.testing.assert_array_equal(values, [of(page)[name] for page in pages])


HOSTILE = ["x", "!", "[", "[1", ".'", "a.", "\n", " ", "-\n", "... ", "a b "]


@pytest.mark.parametrize("piece", HOSTILE, ids=repr)
def test_time_is_linear(piece):
    """A pattern that starts again at every place would take minutes."""
    started = time.process_time()
    found = of(piece * (200_000 // len(piece)) + "x")
    assert time.process_time() - started < 10 and all(np.isfinite(value) for value in found.values())


def test_rules_are_of_features_that_are_there():
    assert {rule.feature for rule in ALL.values()} <= set(FEATURES) == set(of(PAGE))
    assert len(ALL) == sum(map(len, SETS.values()))


def write(path, texts, **more):
    path.write_text("".join(json.dumps({"text": text} | more, ensure_ascii=False) + "\n" for text in texts))


def rows_of(path):
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_stage(folder, capsys):
    texts = [GOOD, "Buy now!", GOOD.replace("\n", "\r\n"), GOOD.replace("harbour", "{harbour}")]
    write(folder / "in.jsonl", texts)
    rules = "rules=[gopher_quality,c4,gopher_min_words,fineweb]"
    assert main(STAGE, ["in.jsonl", "out.jsonl", "page-features", rules, "workers=1"]) == 0
    rows = rows_of(folder / "out.jsonl")
    assert [row["score"] for row in rows] == [0, 5, 0, 1]
    assert [row["page_reason"] for row in rows] == ["passes", "gopher_min_words", "passes", "c4_curly_bracket"]
    assert [row["page_broken_c4"] for row in rows] == [0, 1, 0, 1]
    assert rows[3]["page_c4_curly_bracket"] is True and rows[1]["page_c4_curly_bracket"] is False
    assert rows[1]["page_words"] == 2 and type(rows[1]["page_words"]) is int
    assert list(rows[0])[1:5] == ["score", "page_reason", "page_broken_gopher_quality", "page_broken_c4"]
    assert {f"page_{name}" for name in FEATURES} < rows[0].keys()
    manifest = json.loads((folder / "out.jsonl.manifest.json").read_text())
    wanted = {"passes": 2, "gopher_min_words": 1, "c4_curly_bracket": 1}
    assert manifest["extra"]["page_reason"] == {"distinct": 3, "rows": wanted}
    broken = {name: count for name, count in manifest["facts"]["rows_that_break"].items() if count}
    assert broken == {
        "gopher_min_words": 1,
        "gopher_alphabetic_words": 1,
        "gopher_stop_words": 1,
        "c4_curly_bracket": 1,
        "c4_sentences": 1,
        "fineweb_short_lines": 1,
    }
    assert (
        manifest["directions"]["page_broken_c4"] == "lower"
        and manifest["directions"]["page_punctuated_lines"] == "higher"
    )
    assert not {"page_reason", "page_words", "page_c4_lorem_ipsum"} & manifest["directions"].keys()
    out = capsys.readouterr().out
    assert "page_reason: passes 2, gopher_min_words 1, c4_curly_bracket 1\n" in out
    # the pages that pass are kept by a threshold; so are those that pass one set
    assert main(SELECTION, ["out.jsonl", "kept.jsonl", "threshold", "threshold=0"]) == 0
    assert rows_of(folder / "kept.jsonl") == [rows[0], rows[2]]
    by_set = ["threshold", "threshold=0", "score_field=page_broken_gopher_quality"]
    assert main(SELECTION, ["out.jsonl", "kept.jsonl", *by_set]) == 0
    assert rows_of(folder / "kept.jsonl") == [rows[0], rows[2], rows[3]]
    # other rules count nothing again, neither do more processes
    capsys.readouterr()
    assert main(STAGE, ["in.jsonl", "out.jsonl", "page-features", "rules=[c4_sentences]", "workers=2"]) == 0
    assert "features: up to date" in capsys.readouterr().out


def test_limits_order_features_and_prefix(folder):
    write(folder / "in.jsonl", ["Buy it now today!"])
    words = ["in.jsonl", "out.jsonl", "page-features", "rules=[c4,gopher_quality]", "features=[words]", "prefix=p_"]
    assert main(STAGE, [*words, "limits={gopher_min_words: 4, gopher_stop_words: null}"]) == 0
    [row] = rows_of(folder / "out.jsonl")
    wanted = {"score": 1, "p_reason": "c4_sentences", "p_broken_c4": 1, "p_broken_gopher_quality": 0, "p_words": 4}
    assert row == {"text": "Buy it now today!"} | wanted


def test_a_row_without_text_breaks_what_an_empty_page_breaks(folder):
    write(folder / "in.jsonl", [GOOD, " \n", GOOD])
    rules = "rules=[gopher_quality,c4,fineweb]"
    assert main(STAGE, ["in.jsonl", "out.jsonl", "page-features", rules, "on_short=worst", "score_field=broken"]) == 0
    rows = rows_of(folder / "out.jsonl")
    assert [row["broken"] for row in rows] == [0, 6, 0] and rows[1]["page_reason"] == "gopher_min_words"
    assert rows[1]["page_words"] == 0 and rows[1]["page_c4_lorem_ipsum"] is False


def test_scripts_without_blanks_are_told(folder, capsys):
    write(folder / "in.jsonl", ["今天天气很好，我们去公园。" * 9, "สวัสดีครับ ยินดีที่ได้รู้จัก " * 9, GOOD])  # noqa: RUF001
    assert main(STAGE, ["in.jsonl", "out.jsonl", "page-features"]) == 0
    assert "warning: 2 rows are mostly in scripts without blanks between words" in capsys.readouterr().out
    shares = [row["page_unspaced_characters"] for row in rows_of(folder / "out.jsonl")]
    assert shares == [pytest.approx(11 / 13), 1, 0]
    assert json.loads((folder / "out.jsonl.manifest.json").read_text())["facts"]["rows_without_spaces"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["rules=[gopher_min_word]"],
            "rules: there is no rule or set 'gopher_min_word'; did you mean 'gopher_min_words'?",
        ),
        (["rules=[]"], "rules: name one at least, or one of the sets gopher_quality, gopher_repetition, c4, fineweb"),
        (
            ["limits={c4_sentence: 3}"],
            "limits: 'c4_sentence' is not one of the rules in use; did you mean 'c4_sentences'?",
        ),
        (["limits={c4_sentences: .inf}"], "NaN and infinity are no values"),
        (["limits=3"], "(allowed: mapping {name: float | null})"),
        (["features=[wordz]"], "features: there is no feature 'wordz'; did you mean 'words'?"),
        (["stop_words=[the]"], "stop_words: gopher_stop_words asks for 2, of 1 that are named"),
        (["score_field=page_reason"], "score_field=page_reason: the method writes another field of that name"),
        (["text_field=page_reason"], "text_field=page_reason: the method writes a field of that name"),
        ([], "in.jsonl:1: page_words is there already (overwrite=true replaces it)"),
    ],
)
def test_mistakes(folder, capsys, words, message):
    write(folder / "in.jsonl", [GOOD], page_words=3)
    assert main(STAGE, ["in.jsonl", "out.jsonl", "page-features", *words]) == 2
    assert message in capsys.readouterr().err


def test_rules_that_are_named_twice_count_once():
    assert list(Scorer(rules=["c4_sentences", "c4"]).rules) == ["c4_sentences", "c4_lorem_ipsum", "c4_curly_bracket"]
