"""Items found in training data, against a plain search."""

import json
import sys
import unicodedata

import numpy as np
import pytest

from model_eval.contamination import LENGTH, PLAIN_WORD, SPECIAL, WORD, Items, grams, words_of
from tests.model_eval.direct import benchmarks
from tests.model_eval.test_lm_evaluation_harness import write_task
from tests.models import save_model

WORDS = [f"w{number}" for number in range(40)]


def brute(items, texts):
    """Whether any LENGTH words of an item stand in a text, by comparing lists of words."""

    def runs(text):
        words = text.lower().replace(",", " ").split()
        return {tuple(words[i : i + LENGTH]) for i in range(len(words) - LENGTH + 1)}

    there = set().union(*map(runs, texts))
    return [any(runs(text) & there for text in item) for item in items]


@pytest.mark.parametrize("seed", range(5))
def test_against_a_plain_search(seed):
    generator = np.random.default_rng(seed)
    alphabet = WORDS[: 2 if seed % 2 else 40]
    texts = [" ".join(generator.choice(alphabet, generator.integers(0, 60))) for _ in range(20)]
    items = [[" ".join(generator.choice(alphabet, generator.integers(0, 25)))] for _ in range(30)]
    items += [[texts[3][4:], "short"], ["nothing here", texts[7].upper().replace(" ", ", ")]]
    found = Items({"first": items[:10], "second": items[10:]})
    for text in texts:
        found.look_into(text)
    expected = brute(items, texts)
    shares = found.shares()
    assert [shares[name]["found"] for name in ("first", "second")] == [sum(expected[:10]), sum(expected[10:])]
    assert shares["second"]["share"] == np.mean(expected[10:])
    short = [all(len(text.split()) < LENGTH for text in item) for item in items]
    assert shares["first"]["too_short"] + shares["second"]["too_short"] == sum(short)


def test_thirteen_words_and_not_twelve():
    text = " ".join(WORDS)
    assert len(grams(text)) == len(WORDS) - LENGTH + 1 == len(np.unique(grams(text)))
    assert len(grams(" ".join(WORDS[:12]))) == 0 and len(grams(" ".join(WORDS[:13]))) == 1
    assert grams("A, b-c! " * 5)[0] == grams("a b c " * 5)[0] != grams("b a c " * 5)[0]


def test_share_in_the_result(tmp_path):
    passage = " ".join(WORDS[:12])
    rows = [{"passage": f"{passage} {i}", "continuations": ["yes", f"no {i}"], "answer": 0} for i in range(4)]
    write_task(tmp_path / "task", rows=rows)
    train = tmp_path / "train.jsonl"
    train.write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in ("junk", f"So: {passage} 2, and more", passage))
    )
    keys = {"tasks": str(tmp_path / "task"), "contamination_data": str(train)}
    model = save_model(tmp_path / "model")
    result = benchmarks(model, **keys, max_length=64)["words"]
    assert result["contamination"] == {"share": 0.25, "found": 1, "too_short": 0}
    assert benchmarks(model, **keys, limit=2, max_length=64)["words"]["contamination"]["found"] == 0


FRENCH = "Déjà l'été où le garçon élevé près de la forêt a mangé des pâtes à l'ail et bu du thé glacé"
HINDI = "भारत एक विशाल देश है जहाँ अनेक भाषाएँ बोली जाती हैं और लोग मिलकर रहते हैं"
CHINESE = "今天天气很好我们一起去公园散步然后回家吃饭"
THAI = "วันนี้อากาศดีมากเราไปเดินเล่นที่สวนสาธารณะกันเถอะ"
JAPANESE = "今日はとても天気がいいので公園を散歩しましょう"


@pytest.mark.parametrize("text, words", [
    ("Déjà-vu, l'ÉTÉ", ["déjà", "vu", "l", "été"]),
    (unicodedata.normalize("NFD", "Déjà-vu"), ["déjà", "vu"]),
    ("snake_case 3.14", ["snake", "case", "3", "14"]),
    ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
    ("שָׁלוֹם עולם", [unicodedata.normalize("NFKC", "שָׁלוֹם"), "עולם"]),
    ("今天 GPT4很好", ["今", "天", "gpt4", "很", "好"]),
    ("ที่นี่", ["ที่", "นี่"]),
    ("\uff46\uff55\uff4c\uff4c \ufb01ne Straße", ["full", "fine", "strasse"]),
    ("soft\u00adhyphen می\u200cروم", ["softhyphen", "میروم"]),
    ("안녕하세요 여러분", ["안녕하세요", "여러분"]),
    ("İstanbul", ["i̇stanbul"]),
])  # fmt: skip
def test_words_of_every_script(text, words):
    """Split by hand."""
    assert words_of(text) == words
    assert words_of(unicodedata.normalize("NFD", text)) == words_of(unicodedata.normalize("NFC", text)) == words


def test_the_fast_way_is_the_same_way():
    """For every character that Python's Unicode knows; that of `regex` is newer."""
    known = (one for one in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(one) != "Cn")
    for character in (one for one in known if not SPECIAL.match(one)):
        assert bool(PLAIN_WORD.match(character)) == bool(WORD.match(character)), hex(ord(character))


@pytest.mark.parametrize("item, train", [
    (unicodedata.normalize("NFC", FRENCH), unicodedata.normalize("NFD", FRENCH)),
    (unicodedata.normalize("NFD", FRENCH), f"Avant. {FRENCH.upper()} Après."),
    (HINDI, f"और {HINDI} है"), (CHINESE, f"他说“{CHINESE[3:18]}”。"), (THAI, THAI[5:]), (JAPANESE, JAPANESE[:20]),
], ids=["composed", "decomposed", "hindi", "chinese", "thai", "japanese"])  # fmt: skip
def test_items_of_every_script_are_found(item, train):
    items = Items({"t": [[item]]})
    items.look_into(item[: len(item) // 4] + " # " + item[-len(item) // 4 :])
    assert items.shares()["t"]["found"] == 0
    items.look_into(train)
    assert items.shares()["t"] == {"share": 1.0, "found": 1, "too_short": 0}


def test_what_is_too_short_is_told_by_script(tmp_path, capsys):
    passages = ["short one", "天气很好", "今天", "короткий", "१२ ३", FRENCH, "12 + 7"]
    rows = [{"passage": text, "continuations": ["1", "2"], "answer": 0} for text in passages]
    write_task(tmp_path / "task", rows=rows)
    (tmp_path / "train.jsonl").write_text('{"text": "junk"}\n')
    keys = {"tasks": str(tmp_path / "task"), "contamination_data": str(tmp_path / "train.jsonl")}
    found = benchmarks(save_model(tmp_path / "model"), **keys)["words"]["contamination"]
    assert found["too_short"] == 6
    assert found["too_short_by_script"] == {"cjk": 2, "none": 2, "latin": 1, "cyrillic": 1}
    told = "items too short to be looked for in the training data, of 7: 2 cjk, 2 none, 1 latin, 1 cyrillic"
    assert f"warning: words: {told}" in capsys.readouterr().out
