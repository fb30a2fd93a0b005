"""What an annotation tells before it begins: its passes, and the time that measured batches promise."""

import re

import pytest

from data_scoring.engines.influence import forecast
from tests.data_scoring.brute_force import ROWS, gamma, pds_scorer, scorer, store
from tests.models import random_model


def told(capsys):
    return [line for line in capsys.readouterr().out.split("\n") if line.startswith("annotate: ")]


@pytest.mark.parametrize(
    ("keys", "visits", "products"),
    [
        (scorer(steps=4, interval=2), 3, 4),  # at 0, 2 and, for the norm alone, 4
        (scorer(steps=4, interval=1), 5, 4),
        (scorer(steps=4, interval=1, lag=3), 4, 4),  # at 0 and 1, and at 3 and 4
        (scorer(steps=4, interval=2, hessian="none"), 3, 0),
        (pds_scorer(steps=4, interval=2), 2, 4),
    ],
)
def test_passes_and_time(keys, visits, products, capsys, monkeypatch):
    seconds = iter([100.0, 1000.0 if products else 0.0, 10.0])  # of a gradient, a product, a batch of samples
    monkeypatch.setattr(forecast, "_seconds", lambda work: next(seconds))
    corpus, target = store(2, ROWS), store(3, 4)
    gamma(keys, random_model("mistral-tied"), corpus, target)
    passes, time = told(capsys)
    assert passes == (
        "annotate: 4 steps of 2 samples forward and 4 back, each of these with 4 target samples; "
        f"the gradients of {ROWS} samples at {visits} visited steps"
    )
    share = target.lengths.sum() / corpus.lengths[:2].sum()
    expected = 4 * 100 + 4 * (100 + 100 * share) + products * 1000 + visits * 10  # one batch holds all samples
    hours, minutes, rest = map(int, re.search(r"about (?:(\d+):)?(\d+):(\d+) to go", time).groups(default=0))
    assert hours * 3600 + minutes * 60 + rest == int(expected)


def test_what_is_done_is_not_counted(capsys, tmp_path):
    corpus, target = store(2, ROWS), store(3, 4)
    for _ in range(2):
        gamma(scorer(steps=4, interval=2), random_model("mistral-tied"), corpus, target, tmp_path)
    first, _, second, _ = told(capsys)
    assert first.startswith("annotate: 4 steps of 2 samples forward and 4 back")
    assert second.startswith("annotate: 0 steps of 2 samples forward and 2 back")
    assert second.endswith("at 0 visited steps")


def test_scores_do_not_depend_on_it(monkeypatch):
    corpus, target = store(2, ROWS), store(3, 4)
    keys = {"steps": 4, "hessian": "finite-difference"}
    measured = gamma(scorer(**keys), random_model("gpt2"), corpus, target)
    monkeypatch.setattr(forecast, "tell", lambda *_: None)
    assert (gamma(scorer(**keys), random_model("gpt2"), corpus, target) == measured).all()
