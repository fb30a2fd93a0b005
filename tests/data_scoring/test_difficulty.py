"""difficulty: hand examples, MTLD by definition, packages as oracles, the stage, texts without words or blanks."""

import json

import numpy as np
import pytest
import regex
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from data_common.calls.cli import main
from data_scoring.difficulty.features import mtld, sentences, syllables, text_features
from data_scoring.difficulty.method import Scorer
from data_scoring.entry import STAGE
from data_selection.entry import STAGE as SELECTION
from tests.models import save_model

WORDS = st.lists(
    st.sampled_from(["the", "cat", "sees", "another", "animal", "being", "table", "quietly"]), min_size=3
)  # textstat takes less for no sentence


def of(text):
    return {name: values[0] for name, values in text_features([text]).items()}


def test_flesch_by_hand():
    """Nine words, two sentences, eleven syllables: The cat sat on the ta-ble. It was hap-py."""
    found = of("The cat sat on the table. It was happy!")
    assert found["words"] == 9
    assert found["flesch_reading_ease"] == pytest.approx(206.835 - 1.015 * 9 / 2 - 84.6 * 11 / 9)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three?", 3),
        ("It costs 3.5 now", 1),
        ("A title\n\nAnd a text", 2),
        ('He said "stop." Then (he went.) So', 3),
        ("...", 0),
        ("Wait... what", 2),
        ("a line\nof two", 1),
        ("", 0),
    ],
)
def test_sentences(text, count):
    assert sentences(text) == count


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "the make cakes walked called 3 mr though loved strength it's"),
        (2, "table lately needed cages isn't being rhythm doing quiet people nation handled matches well-known"),
        (3, "another animal radio video beautiful syllable elephant hamster-wheel"),
        (4, "information actually u.s-navy"),
        (5, "university"),
    ],
)
def test_syllables(count, words):
    assert {word: syllables(word) for word in words.split()} == dict.fromkeys(words.split(), count)


def test_mtld_by_hand():
    """One factor both ways: a b a (2/3) of the beginning, d c b a b a (4/6) of the end."""
    assert mtld(list("abab")) == pytest.approx((4 / 1 + 4 / 1) / 2)
    assert mtld(list("ababcd")) == pytest.approx((6 / 1 + 6 / 1) / 2)
    # a b c d e f g a: 7/8 is left over, (1 - 7/8) / 0.28 factors, both ways
    assert mtld(list("abcdefga")) == pytest.approx(8 / (0.125 / 0.28))
    assert mtld(list("abc")) == 3 and mtld(["a"]) == 1


@pytest.fixture(scope="module")
def lexicalrichness():
    reason = "the oracle of MTLD is not installed: pip install lexicalrichness"
    return pytest.importorskip("lexicalrichness", reason=reason)


@given(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), min_size=1, max_size=120))
def test_mtld_is_that_of_lexicalrichness(lexicalrichness, words):
    oracle = lexicalrichness.LexicalRichness(" ".join(words), preprocessor=None, tokenizer=str.split)
    assert mtld(words) == pytest.approx(oracle.mtld(threshold=0.72))


@pytest.fixture(scope="module")
def textstat():
    """The package with our syllables: its own need a dictionary that it downloads."""
    reason = "the oracle of reading ease is not installed: pip install textstat"
    counting = pytest.importorskip("textstat.backend.metrics._syllables_per_word", reason=reason)
    from textstat.backend.metrics import _flesch_reading_ease

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "count_syllables", lambda text, _: sum(map(syllables, regex.findall(r"\w+", text))))
        yield _flesch_reading_ease


@given(st.lists(WORDS, min_size=1, max_size=5), st.sampled_from([".", "!", "?"]))
def test_reading_ease_is_that_of_textstat(textstat, paragraph, mark):
    text = " ".join(" ".join(words) + mark for words in paragraph)
    assert of(text)["flesch_reading_ease"] == pytest.approx(textstat.flesch_reading_ease(text, "en_US"))


def test_compression_is_of_bytes():
    text = "Ünïcode, again and again. " * 40
    frame = zstandard.compress(text.encode(), 3)
    assert of(text)["compression_ratio"] == len(frame) / len(text.encode()) < 0.1
    assert zstandard.decompress(frame) == text.encode()
    assert of("ab")["compression_ratio"] > 1
    letters = np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz"), 4000)
    assert of("".join(letters))["compression_ratio"] == pytest.approx(np.log2(26) / 8, rel=0.05)


def test_no_words_no_blanks_and_hostile_texts():
    found = text_features(["", "--- !!!", "我们今天去学校。", "a\ud800b", "\u0301", "_"])
    assert found["words"].tolist()[:3] == [0, 0, 1] and found["unspaced"][2] == 1
    assert np.isnan(found["mtld"][:2]).all() and np.isnan(found["flesch_reading_ease"][:2]).all()
    assert np.isfinite(found["compression_ratio"]).all() and np.isfinite(found["mtld"][2:4]).all()


@pytest.fixture
def folder(tmp_path):
    texts = ["The cat sat on the table.", "我们今天去学校", "!!!", "word " * 150]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tmp_path


def call(folder, *keys):
    code = main(STAGE, [str(folder / "in.jsonl"), str(folder / "out.jsonl"), "difficulty", "workers=1", *keys])
    lines = (folder / "out.jsonl").read_text().split("\n")[:-1] if code == 0 else []
    return code, [json.loads(line) for line in lines]


def test_the_stage_counts_and_warns(folder, capsys):
    code, _ = call(folder)
    assert code == 2 and "in.jsonl:3: no text to score" in capsys.readouterr().err
    code, rows = call(folder, "on_short=worst")
    shown = capsys.readouterr().out
    assert code == 0 and "warning: 1 rows are mostly in scripts without blanks" in shown
    assert [*rows[0]] == ["text", "score", "mtld", "flesch_reading_ease"]
    assert [*rows[2].values()] == ["!!!", None, None, None]
    expected = text_features([row["text"] for row in rows])
    for field, name in (("score", "compression_ratio"), ("mtld", "mtld"), ("flesch_reading_ease",) * 2):
        np.testing.assert_allclose([rows[i][field] for i in (0, 1, 3)], expected[name][[0, 1, 3]])
    manifest = json.loads((folder / "out.jsonl.manifest.json").read_text())
    facts = {"rows_without_words": 1, "rows_below_100_words": 2, "rows_without_spaces": 1}
    assert manifest["facts"] == facts and not manifest["directions"]
    words = [str(folder / "out.jsonl"), str(folder / "kept.jsonl"), "top-k", "k=1"]
    assert main(SELECTION, words) == 2  # no end is better: it must be said
    assert "is a higher or a lower score better?" in capsys.readouterr().err
    (folder / "plain.jsonl").write_text('{"difficulty": 1}\n')  # nor of a field that is named after the method
    assert main(SELECTION, [str(folder / "plain.jsonl"), words[1], "top-k", "k=1", "score_field=difficulty"]) == 2
    assert "is a higher or a lower difficulty better?" in capsys.readouterr().err


def test_tokens_per_word(folder, capsys):
    model = str(save_model(folder / "model"))
    from transformers import AutoTokenizer

    assert call(folder, "on_short=drop")[0] == 0  # what it measured lacks tokens
    keys = ["metric=tokens_per_word", "extra_metrics=[mtld]", "on_short=drop", f"tokenizer={model}"]
    code, rows = call(folder, *keys)
    assert code == 0 and len(rows) == 3
    encode = AutoTokenizer.from_pretrained(model).encode
    for row, count in zip(rows, (6, 1, 150), strict=True):
        assert row["score"] == pytest.approx(len(encode(row["text"], add_special_tokens=False)) / count)
    code, _ = call(folder, "extra_metrics=[tokens_per_word]")
    assert code == 2 and "tokens_per_word: set tokenizer" in capsys.readouterr().err


def test_the_metric_is_not_written_twice():
    assert [*Scorer(metric="mtld").extra_directions] == ["compression_ratio", "flesch_reading_ease"]
    assert [*Scorer(metric="mtld", extra_metrics=["mtld", "compression_ratio"]).extra_directions] == [
        "compression_ratio"
    ]
    assert [*Scorer(tokenizer="any").extra_directions] == ["mtld", "flesch_reading_ease", "tokens_per_word"]
    assert not Scorer(extra_metrics=[]).extra_directions
