"""Thresholds of groups: each rule against its definition, either direction, mistakes, a file."""

import json

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_selection.adaptive_threshold.method import select
from data_selection.entry import STAGE

RNG = np.random.default_rng(0)
GROUP = np.repeat([0, 1, 2], [100, 50, 31])
GROUPS = ["english", "french", "thai"]
SCORE = RNG.normal(size=181) * np.array([1.0, 3.0, 0.2])[GROUP] + np.array([2.0, 5.0, 1.0])[GROUP]


def chosen(higher=True, **keys):
    """Selected rows, thresholds; where lower is better, of the negated scores."""
    kept, facts = select(SCORE if higher else -SCORE, higher, GROUP, GROUPS, **keys)
    assert list(facts["thresholds"]) == GROUPS
    return kept.tolist(), list(facts["thresholds"].values())


def expected(bounds):
    return np.flatnonzero(np.array(bounds)[GROUP] <= SCORE).tolist()


RULES = [
    {"rule": "tail"},
    *({"rule": rule, "reference": "english", "threshold": 1.5} for rule in ("quantile", "mean-std", "median-ratio")),
    {"rule": "given", "threshold": {"english": 1.5, "french": 4.0, "thai": 1.0}},
]


@pytest.mark.parametrize("keys", RULES, ids=lambda keys: keys["rule"])
def test_a_lower_score_that_is_better_changes_signs_alone(keys):
    negated = dict(keys)
    if "threshold" in keys:
        value = keys["threshold"]
        negated["threshold"] = {name: -one for name, one in value.items()} if isinstance(value, dict) else -value
    kept, bounds = chosen(**keys)
    lower, of_lower = chosen(higher=False, **negated)
    assert lower == kept == expected(bounds)
    np.testing.assert_allclose(of_lower, -np.array(bounds), rtol=1e-12)


def test_tail_leaves_out_the_share_of_each_group():
    kept, _ = chosen(rule="tail", tail=0.1)
    assert np.bincount(GROUP[kept]).tolist() == [90, 45, 28]
    assert len(chosen(rule="tail", tail=0.0)[0]) == 181


def test_quantile_leaves_out_what_the_reference_loses():
    kept, _ = chosen(rule="quantile", reference="english", threshold=1.5)
    lost = int((SCORE[GROUP == 0] < 1.5).sum())
    assert np.bincount(GROUP[kept]).tolist() == [100 - lost, 50 - 50 * lost // 100, 31 - 31 * lost // 100]
    assert [row for row in kept if row < 100] == np.flatnonzero(SCORE[:100] >= 1.5).tolist()


def test_mean_std_and_median_ratio_by_their_definition():
    parts = [SCORE[one == GROUP] for one in range(3)]
    deviations = (1.5 - np.mean(parts[0])) / np.std(parts[0])
    _, bounds = chosen(rule="mean-std", reference="english", threshold=1.5)
    np.testing.assert_allclose(bounds, [np.mean(part) + deviations * np.std(part) for part in parts])
    _, bounds = chosen(rule="median-ratio", reference="english", threshold=1.5)
    np.testing.assert_allclose(bounds, [1.5 * np.median(part) / np.median(parts[0]) for part in parts])
    assert bounds[0] == pytest.approx(1.5)


def test_equal_scores_at_the_cut_stay():
    kept, _ = select(np.array([1.0, 1, 1, 2, 3]), True, np.zeros(5, int), ["all"], tail=0.4)
    assert kept.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rule": "tail", "threshold": 1.0}, "rule=tail reads neither reference nor threshold"),
        ({"rule": "given"}, "rule=given needs threshold=NUMBER"),
        ({"rule": "quantile", "threshold": 1.0}, "rule=quantile needs reference=GROUP and threshold=NUMBER"),
        ({"rule": "mean-std", "reference": "english", "threshold": {"english": 1.0}}, "rule=mean-std needs reference"),
        ({"rule": "mean-std", "reference": "dutch", "threshold": 1.0}, "reference: no row is of the group"),
        ({"rule": "given", "threshold": {"english": 1.0}}, "threshold: the group .*french.* has no value"),
        ({"rule": "quantile", "reference": "thai", "threshold": 99.0}, "no row of the reference reaches the threshold"),
    ],
)
def test_mistakes(keys, message):
    with pytest.raises(UserError, match=message):
        select(SCORE, True, GROUP, GROUPS, **keys)


def test_a_median_of_0_has_no_ratio():
    with pytest.raises(UserError, match="the median of the reference is 0"):
        select(np.zeros(3), True, np.zeros(3, int), ["all"], rule="median-ratio", reference="all", threshold=1.0)


def test_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"score": i * (10 if i % 2 else 1), "language": "ab"[i % 2]} for i in range(20)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["in.jsonl", "out.jsonl", "adaptive-threshold", "rule=quantile", "reference=a", "threshold=6"]
    assert main(STAGE, [*words, "group_field=language", "direction=higher"]) == 0
    kept = [json.loads(line)["score"] for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert kept == [row["score"] for row in rows[6:]]
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert manifest["facts"] == {"thresholds": {"a": 6.0, "b": 70.0}}
    assert [(one["rows_in"], one["rows_out"]) for one in manifest["groups"]] == [(10, 7), (10, 7)]
    assert main(STAGE, [*words, "direction=higher"]) == 2  # without a group_field there is no group a
