"""Combining scores: literals, direction, and what must not change the result."""

import json

import numpy as np
import pytest
from scipy import stats

from data_common.calls.cli import main
from data_common.files.manifest import fingerprint
from data_common.rows.statistics import ranks, z_scores
from data_scoring.combine.method import combined
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION

RANDOM = np.random.default_rng(0)
SCORES = {name: RANDOM.integers(0, 40, 200).astype(float) for name in "abc"}


def test_ranks_and_z_scores_are_those_of_scipy():
    for score in SCORES.values():
        np.testing.assert_allclose(ranks(score), (stats.rankdata(score) - 0.5) / len(score))
        np.testing.assert_allclose(z_scores(score), stats.zscore(score))


def test_by_hand():
    scores = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([30.0, 20.0, 20.0])}
    np.testing.assert_allclose(
        combined(scores, [1, 1], "rank"), [(1 / 6 + 5 / 6) / 2, (1 / 2 + 1 / 3) / 2, (5 / 6 + 1 / 3) / 2]
    )
    np.testing.assert_allclose(combined(scores, [3, 0], "z-score"), [-(1.5**0.5), 0, 1.5**0.5])


@pytest.mark.parametrize("normalize", ["rank", "z-score"])
def test_one_weight_ranks_as_its_score_and_scales_do_not_matter(normalize):
    alone = combined(SCORES, [0, 2, 0], normalize)
    assert stats.spearmanr(alone, SCORES["b"]).statistic == pytest.approx(1)
    both = combined(SCORES, [1, 2, 3], normalize)
    scaled = {name: 7 * score - 3 for name, score in SCORES.items()}
    np.testing.assert_allclose(combined(scaled, [1, 2, 3], normalize), both)
    turned = dict(reversed(SCORES.items()))
    np.testing.assert_allclose(combined(turned, [3, 2, 1], normalize), both)
    np.testing.assert_allclose(combined(SCORES, [10, 20, 30], normalize), both)


def test_equal_scores_say_nothing():
    same = {"a": np.full(4, 2.0), "b": np.arange(4.0)}
    np.testing.assert_allclose(combined(same, [1, 1], "z-score"), z_scores(same["b"]) / 2)
    np.testing.assert_allclose(ranks(same["a"]), 0.5)


def rows(path, values):
    lines = [json.dumps({"text": f"t{i}", "good": good, "ppl": ppl}) for i, (good, ppl) in enumerate(values)]
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path, field="combined"):
    return [json.loads(line)[field] for line in path.read_text().split("\n") if line]


def test_directions_come_from_the_manifest_or_are_said(tmp_path, capsys):
    source, out = rows(tmp_path / "in.jsonl", [(1, 9), (2, 8), (3, 7)]), tmp_path / "out.jsonl"
    call = [str(source), str(out), "combine", "fields=[good, ppl]"]
    assert main(SCORING, call) == 2
    error = capsys.readouterr().err
    assert "in good,ppl?" in error and "lower_is_better=[good,ppl]; [] where none is" in error
    assert main(SCORING, [*call, "lower_is_better=[ppl]"]) == 0
    assert read(out) == pytest.approx([1 / 6, 1 / 2, 5 / 6])
    manifest = {"directions": {"good": "higher", "ppl": "lower"}, "output": fingerprint(source)}
    (tmp_path / "in.jsonl.manifest.json").write_text(json.dumps(manifest))
    assert main(SCORING, [str(source), str(tmp_path / "two.jsonl"), "combine", "fields=[good, ppl]"]) == 0
    assert read(tmp_path / "two.jsonl") == read(out)
    kept = tmp_path / "kept.jsonl"
    assert main(SELECTION, [str(tmp_path / "two.jsonl"), str(kept), "top-k", "k=1", "score_field=combined"]) == 0
    assert read(kept, "good") == [3]


def test_a_row_without_a_number_has_a_place_or_is_dropped(tmp_path, capsys):
    source, out = rows(tmp_path / "in.jsonl", [(1, 1), (2, "x"), (3, 3), (4, 0)]), tmp_path / "out.jsonl"
    call = [str(source), str(out), "combine", "fields=[good, ppl]", "lower_is_better=[ppl]"]
    assert main(SCORING, call) == 2
    assert "in.jsonl:2: ppl is" in capsys.readouterr().err
    assert main(SCORING, [*call, "on_bad_row=drop", "on_short=worst"]) == 0
    assert read(out, "good") == [1, 3, 4]
    assert read(out) == pytest.approx([(1 / 6 + 1 / 2) / 2, (1 / 2 + 1 / 6) / 2, 5 / 6])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["fields=[a, a]"], "once"),
        (["fields=[]"], "once"),
        (["fields=[a, b]", "weights=[1]"], "2 numbers"),
        (["fields=[a]", "weights=[0]"], "not all of them 0"),
        (["fields=[a]", "weights=[-1]"], "weights"),
        (["fields=[a]", "lower_is_better=[b]"], "not one of the fields"),
    ],
)
def test_keys_that_make_no_sense(keys, message, tmp_path, capsys):
    source = rows(tmp_path / "in.jsonl", [(1, 1)])
    assert main(SCORING, [str(source), str(tmp_path / "out.jsonl"), "combine", *keys]) == 2
    assert message in capsys.readouterr().err
