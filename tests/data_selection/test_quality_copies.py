"""QuaDMix' equations: percentiles by brute force, copies by chi-square; mistakes."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_selection.entry import STAGE
from data_selection.quality_copies.method import copies, expected_copies, merged, percentile

RNG = np.random.default_rng(0)
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(1, 9)), min_size=1, max_size=30)


def call(n=4000, groups=2, **keys):
    scores, group = RNG.normal(size=(n, 2)), RNG.integers(0, groups, n)
    names = [f"g{number}" for number in range(groups)]
    return scores, group, copies(scores, group, names, RNG.integers(1, 50, n), np.arange(n), **keys)


@given(ROWS)
def test_the_rank_is_the_share_of_tokens_that_are_as_good_or_better(rows):
    quality, group, tokens = (np.array(column) for column in zip(*rows, strict=True))
    _, group = np.unique(group, return_inverse=True)
    expected = [
        tokens[(group == g) & (quality >= q)].sum() / tokens[group == g].sum()
        for q, g in zip(quality, group, strict=True)
    ]
    found = percentile(quality.astype(float), group, [str(g) for g in range(group.max() + 1)], tokens)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_equation_3_by_hand():
    """lambda 500, omega 0.05, eta 0.5: tabulated in advance, under both readings."""
    rank = np.array([0.0, 0.05, 0.0500001, 1.0])
    own = [np.full(4, value) for value in (500.0, 0.05, 0.5, 0.001)]
    assert expected_copies(rank, *own) == pytest.approx([1.4152, 1.001, 0.001, 0.001], abs=1e-4)
    assert expected_copies(rank, *own, "factor") == pytest.approx([1.001, 0.501, 0.001, 0.001], abs=1e-4)


def test_copies_never_rise_with_the_rank_and_a_steep_sigmoid_is_a_step():
    rank = np.linspace(0, 1, 201)
    for steepness in (0.0, 1.0, 30.0, 1000.0):
        own = [np.full(201, value) for value in (steepness, 0.3, 1.0, 0.01)]
        assert (np.diff(expected_copies(rank, *own)) <= 0).all()
    step = expected_copies(rank, *[np.full(201, value) for value in (1e6, 0.3, 1.0, 0.0)])
    assert set(step[np.abs(rank - 0.3) > 0.001].tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("keys", [{}, {"scale_as": "factor", "scale": 1.3}])
def test_copies_are_floor_or_one_more_and_right_on_average(keys):
    """Over seeds: the number of rows with one copy more is binomial for every row."""
    n, draws = 40, 400
    scores, tokens, group = RNG.normal(size=(n, 1)), RNG.integers(1, 9, n), np.zeros(n, int)
    own = {"steepness": 4.0, "threshold": 0.6, "floor": 0.2} | keys
    drawn = np.array(
        [copies(scores, group, ["all"], tokens, np.arange(n), **own, seed=seed)[0] for seed in range(draws)]
    )
    rank = percentile(scores[:, 0], group, ["all"], tokens)
    values = [own["steepness"], own["threshold"], own.get("scale", 1.0), own["floor"]]
    expected = expected_copies(rank, *[np.full(n, value) for value in values], own.get("scale_as", "exponent"))
    extra = drawn - np.floor(expected)
    assert set(np.unique(extra)) == {0, 1}
    share = expected - np.floor(expected)
    pvalues = [
        chisquare([e.sum(), draws - e.sum()], [draws * p, draws * (1 - p)]).pvalue
        for e, p in zip(extra.T, share, strict=True)
    ]
    assert min(pvalues) > 1e-4
    assert binom.cdf(extra.sum(), draws * n, share.mean()) == pytest.approx(0.5, abs=0.4999)


def test_weights_decide_which_score_counts_in_each_group():
    scores, group, (one, _) = call(weights=[1.0, 0.0], floor=0.0, steepness=1e6)
    for number in (0, 1):
        inside = group == number
        assert scores[inside & (one > 0), 0].min() >= scores[inside & (one == 0), 0].max()
    scores, group, (one, _) = call(weights={"g0": [1, 0], "g1": [0, 1]}, floor=0.0, steepness=1e6, normalize="z-score")
    for number in (0, 1):
        inside = group == number
        assert scores[inside & (one > 0), number].min() >= scores[inside & (one == 0), number].max()


def test_one_domain_without_a_threshold_keeps_every_row():
    _, _, (one, facts) = call(groups=1, threshold=1.0, floor=0.0, scale=0.0)
    assert (one == 1).all() and facts == {"expected_copies": 4000.0}


def test_the_luck_of_a_row_does_not_depend_on_the_others():
    scores, tokens, rows = np.zeros((50, 1)), np.ones(50), np.arange(50)
    own = {"threshold": 0.0, "floor": 0.5}
    all_rows, _ = copies(scores, np.zeros(50, int), ["a"], tokens, rows, **own)
    part, _ = copies(scores[::2], np.zeros(25, int), ["a"], tokens[::2], rows[::2], **own)
    assert all_rows[::2].tolist() == part.tolist() and 10 < all_rows.sum() < 40


def test_merging_is_a_weighted_sum_of_ranks_over_all_rows():
    scores = np.array([[1.0, 30.0], [2.0, 10.0], [3.0, 20.0]])
    found = merged(scores, np.array([0, 1, 0]), np.array([[1.0, 0.0], [1.0, 2.0]]), "rank")
    assert found == pytest.approx([1 / 6, 3 / 6 + 2 * 1 / 6, 5 / 6])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"weights": [1.0]}, "weights: 2 numbers are needed"),
        ({"weights": [0.0, 0.0]}, "weights: 2 numbers are needed"),
        ({"weights": {"g0": [1.0, 1.0]}}, "weights: the group g1 has no value"),
        ({"floor": {"g0": 1.0, "g1": 1.0, "web": 1.0}}, "floor: no row is of the group web .groups are g0, g1"),
        ({"threshold": {"g0": 1.0}}, "threshold: the group g1 has no value"),
    ],
)
def test_values_of_groups_that_do_not_fit(keys, message):
    with pytest.raises(UserError, match=message):
        call(**keys)


def run(folder, rows, *keys, expected=0):
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [str(folder / "in.jsonl"), str(folder / "out.jsonl"), "quality-copies", "lower_is_better=[]", *keys]
    assert main(STAGE, words) == expected
    if expected:
        return None
    facts = json.loads((folder / "out.jsonl.manifest.json").read_text())
    return [json.loads(line)["id"] for line in (folder / "out.jsonl").read_text().split("\n")[:-1]], facts


ROWS_OF_FILE = [{"id": i, "score": i * 7 % 40, "lang": "en" if i % 4 else "de", "text": "x" * 8} for i in range(40)]


def test_a_file_with_copies(tmp_path, capsys):
    keys = ["group_field=lang", "threshold={en: 0.5, de: 0.1}", "steepness=1000", f"rejects={tmp_path / 'r.jsonl'}"]
    ids, facts = run(tmp_path, ROWS_OF_FILE, *keys, "seed=1")
    count = Counter(ids)
    first = ids[: len(count)]
    assert first == sorted(count) and ids[len(count) :] == [row for row in first if count[row] > 1]
    histogram = Counter(count[row["id"]] for row in ROWS_OF_FILE)
    assert facts["copies"] == {"rows": len(count), "histogram": {str(k): v for k, v in sorted(histogram.items())}}
    assert facts["rows_out"] == len(ids) and facts["facts"]["expected_copies"] == pytest.approx(len(ids), abs=3)
    assert [one["group"] for one in facts["groups"]] == ["de", "en"]
    assert sum(one["rows_out"] for one in facts["groups"]) == len(ids)
    rejected = [json.loads(line)["id"] for line in (tmp_path / "r.jsonl").read_text().split("\n")[:-1]]
    assert rejected == [row["id"] for row in ROWS_OF_FILE if row["id"] not in count]
    assert f"kept {len(ids)} from 40 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["scale=3"], "rows have more than max_repeats=4 copies: max_repeats=8 allows them"),
        (["group_field=language"], "in.jsonl:1: language is missing"),
        (["threshold={en: 1}", "group_field=lang"], "threshold: the group de has no value"),
        (["threshold={en: 1}"], "threshold: no row is of the group en (all rows are one group: set group_field=FIELD)"),
        (["threshold={en: .nan}"], "threshold"),
        (["scale=70"], "have more than max_repeats=4 copies"),
        (["scale=3000"], "have more than max_repeats=4 copies"),
        (["floor=1e300"], "40 rows have more than max_repeats=4 copies"),
        (["scale=.inf"], "scale: infinity is no value"),
        (["threshold=1", "steepness=inf"], "steepness: infinity is no value"),
        (["group_field=lang", "weights={en: [.inf], de: [1]}"], "weights: {en: [.inf], de: [1]} is not valid"),
        (["group_field=lang", "weights={en: [.nan], de: [1]}"], "weights: {en: [.nan], de: [1]} is not valid"),
        (["tokens_field=empty"], "the group all has no tokens"),
    ],
)
def test_mistakes(tmp_path, capsys, keys, message):
    keys = keys if any("steepness" in key for key in keys) else [*keys, "steepness=1000"]
    run(tmp_path, [row | {"empty": 0} for row in ROWS_OF_FILE], *keys, expected=2)
    error = capsys.readouterr().err.split("\n")
    assert message in error[-2] and error[-2].startswith("error: ")
