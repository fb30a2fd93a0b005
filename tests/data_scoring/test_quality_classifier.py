"""quality-classifier against scikit-learn called directly; on planted junk; what it is shown; mistakes."""

import json
from itertools import pairwise

import numpy as np
import pytest
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_scoring.engines.linear_student import Linear, fit, held_out_auc, load
from data_scoring.entry import STAGE

GOOD = ["river", "water", "spring", "stone", "bridge", "valley", "snow", "wood"]
JUNK = ["buy", "cheap", "click", "now", "free", "login", "cart", "offer"]
COMMON = ["the", "a", "of", "and", "is", "to"]


def texts(words, count, seed):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice([*words, *COMMON], 12)) + "." for _ in range(count)]


def write(name, rows):
    with open(name, "w") as file:
        file.writelines(json.dumps({"text": row}) + "\n" for row in rows)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("good.jsonl", texts(GOOD, 60, 0))
    write("bad.jsonl", texts(JUNK, 40, 1))
    write("in.jsonl", texts(GOOD, 30, 2) + texts(JUNK, 30, 3))
    return tmp_path


def scores(out, *words):
    assert main(STAGE, ["in.jsonl", out, "quality-classifier", "workers=1", *words]) == 0
    with open(out) as file:
        return np.array([json.loads(line)["score"] for line in file])


def rows_of(name):
    with open(name) as file:
        return [json.loads(line)["text"] for line in file]


def test_against_scikit_learn(here):
    found = scores("out.jsonl", "positive_data=good.jsonl", "negative_data=bad.jsonl", "regularization=0.5")
    vectorizer = HashingVectorizer(
        token_pattern=r"(?u)\w+|[^\w\s]", ngram_range=(1, 2), n_features=2**20, alternate_sign=False
    )
    examples = vectorizer.transform(rows_of("good.jsonl") + rows_of("bad.jsonl"))
    model = LogisticRegression(C=0.5, solver="liblinear", class_weight="balanced", random_state=0)
    model.fit(examples, np.repeat([1, 0], [60, 40]))
    wanted = model.decision_function(vectorizer.transform(rows_of("in.jsonl")))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert roc_auc_score(np.repeat([1, 0], 30), found) == 1


def test_junk_is_found_where_the_negatives_show_it(here):
    """Words of good text in random order: the negatives of another topic do not show that, their own kind does."""
    ordered = [" ".join(pair) for pair in pairwise(GOOD)]
    random = np.random.default_rng(0)
    prose = [" ".join(random.choice(ordered, 6)) for _ in range(200)]
    shuffled = [" ".join(random.permutation(row.split())) for row in prose]
    write("good.jsonl", prose[:100])
    write("shuffled.jsonl", shuffled[:100])
    write("in.jsonl", prose[100:] + shuffled[100:])
    labels = np.repeat([1, 0], 100)
    blind = roc_auc_score(labels, scores("blind.jsonl", "positive_data=good.jsonl", "negative_data=bad.jsonl"))
    shown = roc_auc_score(labels, scores("shown.jsonl", "positive_data=good.jsonl", "negative_data=shuffled.jsonl"))
    assert shown > 0.98 and blind < 0.9


def test_negatives_from_the_corpus_and_workers(here, capsys):
    one = scores("one.jsonl", "positive_data=good.jsonl")
    assert "note: negatives are a sample of the corpus" in capsys.readouterr().out
    assert roc_auc_score(np.repeat([1, 0], 30), one) > 0.95
    assert main(STAGE, ["in.jsonl", "two.jsonl", "quality-classifier", "workers=2", "positive_data=good.jsonl"]) == 0
    assert (here / "two.jsonl").read_bytes() == (here / "one.jsonl").read_bytes()
    manifest = json.loads((here / "one.jsonl.manifest.json").read_text())
    assert (manifest["facts"]["positives"], manifest["facts"]["negatives"]) == (60, 60)


def test_a_classifier_is_applied_elsewhere(here, capsys):
    keys = ["positive_data=good.jsonl", "negative_data=bad.jsonl"]
    fitted = scores("out.jsonl", *keys, "examples=30")
    assert "examples: 30 good, 30 bad" in capsys.readouterr().out
    np.testing.assert_array_equal(fitted, scores("again.jsonl", "scorer_checkpoint=out.jsonl.work/fit"))
    assert sorted(path.name for path in (here / "out.jsonl.work/fit").iterdir()) == [
        "linear_student.json",
        "step.json",
        "weights.npy",
    ]
    with pytest.raises(UserError, match="is no linear classifier"):
        load(here)


def test_held_out_auc():
    features = Linear(buckets=64).features(texts(GOOD, 100, 0) + texts(JUNK, 100, 1))
    labels = np.repeat([1, 0], 100)
    assert held_out_auc(features, labels, Linear(buckets=64), 0.2, 0)["auc"] > 0.95
    swapped = np.random.default_rng(0).permutation(labels)
    assert abs(held_out_auc(features, swapped, Linear(buckets=64), 0.5, 0)["auc"] - 0.5) < 0.2
    assert held_out_auc(features[:2], labels[[0, -1]], Linear(buckets=64), 0.1, 0)["auc"] is None
    with pytest.raises(UserError, match="both classes"):
        fit(features[:5], labels[:5], Linear(buckets=64))


def test_texts_that_are_good_and_bad_are_counted(here, capsys):
    write("bad.jsonl", texts(JUNK, 40, 1) + rows_of("good.jsonl")[:3])
    scores("out.jsonl", "positive_data=good.jsonl", "negative_data=bad.jsonl")
    assert "60 good, 43 bad (3 texts are both)" in capsys.readouterr().out
    assert json.loads((here / "out.jsonl.manifest.json").read_text())["facts"]["in_both"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["positive_data=null"], "positive_data is not set"),
        (["positive_data=good.jsonl", "negative_data=good.jsonl"], "are the same: there is nothing to tell apart"),
        (["positive_data=good.jsonl", "negative_data=none.jsonl"], "negative_data: no such file: none.jsonl"),
        (["positive_data=good.jsonl", "example_field=body"], "(the row has text: example_field=text)"),
        (["positive_data=good.jsonl", "negative_data=./good.jsonl"], "hold the same texts: there is nothing to tell"),
        (["positive_data=in.jsonl"], "positive_data and the corpus hold the same texts"),
        (["positive_data=good.jsonl", "negative_data=blank.jsonl"], "negative_data: no row has any text"),
        (["scorer_checkpoint=."], ". is no linear classifier"),
    ],
)
def test_mistakes(here, capsys, words, message):
    write("blank.jsonl", ["", " "])
    assert main(STAGE, ["in.jsonl", "out.jsonl", "quality-classifier", *words]) == 2
    assert message in capsys.readouterr().err
