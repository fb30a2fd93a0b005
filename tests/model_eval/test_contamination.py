"""Items found in training data, against a plain search."""

import json

import numpy as np
import pytest

from model_eval.contamination import LENGTH, Items, grams
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
