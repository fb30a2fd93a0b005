"""Whether a data scorer can be trusted: intervals of Spearman's correlation, and who is warned when."""

import json

import numpy as np
import pytest
from scipy import stats

from data_common.calls.cli import main
from data_scoring.engines.influence import fitting
from data_scoring.engines.influence.reliability import judged, spearman_interval
from data_scoring.entry import STAGE
from tests.data_scoring.test_annotate_fit_score import KEYS, write_rows
from tests.models import save_model


@pytest.mark.parametrize(
    ("correlation", "rows", "low", "high"),
    [
        # tanh(artanh r -+ 1.959964 sqrt((1 + r^2 / 2) / (n - 3))), by hand
        (0.0, 103, -0.1935, 0.1935),
        (0.5, 103, 0.3287, 0.6394),
        (0.2, 10, -0.4971, 0.7402),
        (-0.5, 103, -0.6394, -0.3287),
        (0.9, 3, -1.0, 1.0),
        (1.0, 4, -0.8188, 0.9975),  # as 0.8 = 1 - 12 / 60
    ],
)
def test_intervals_of_literals(correlation, rows, low, high):
    assert spearman_interval(correlation, rows) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("pearson", [0.0, 0.4, 0.8])
def test_intervals_hold_the_truth_as_often_as_they_say(pearson):
    random, truth = np.random.default_rng(0), 6 / np.pi * np.arcsin(pearson / 2)  # Spearman's of two normal numbers
    held = 0
    for one, noise in random.normal(size=(1000, 2, 60)):
        low, high = spearman_interval(
            stats.spearmanr(one, pearson * one + np.sqrt(1 - pearson**2) * noise).statistic, 60
        )
        held += low <= truth <= high
    assert 0.93 < held / 1000 < 0.97


@pytest.mark.parametrize(
    ("fitted", "said"),
    [
        (
            {"spearman": 0.2, "validation_rows": 10},
            "nothing that is clear of chance: Spearman 0.200 on 10 validation rows",
        ),
        ({"spearman": -0.4, "validation_rows": 1000}, "nothing that is clear of chance: Spearman -0.400 on 1,000"),
        ({"spearman": 0.2, "validation_documents": 16384}, "little (below 0.3): Spearman 0.200 on 16,384"),
        ({"spearman": 0.9, "validation_rows": 2}, "95 % interval -1.00 to 1.00. The annotation of the proxy rows is"),
        ({"spearman": 0.31, "validation_rows": 16384}, None),
        ({"validation_rows": 10}, None),
        ({}, None),
    ],
)
def test_warnings(fitted, said):
    facts, warnings = judged(fitted)
    assert len(warnings) == (said is not None) and all(said in warning for warning in warnings)
    assert not facts or facts.keys() == {"validation_rows", "spearman_interval"}


def test_a_scorer_that_predicts_nothing_is_named_in_summary_report_and_manifest(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fitting, "agreement", lambda *_: {"spearman": 0.1, "pearson": 0.1, "top_30_overlap": 0.3})
    write_rows(tmp_path / "in.jsonl", 60)
    write_rows(tmp_path / "target.jsonl", 5, seed=1)
    model = save_model(tmp_path / "model")
    keys = [f"annotator_model={model}", f"target_data={tmp_path / 'target.jsonl'}", *KEYS, "proxy_size=40"]
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "lqs"]
    said = "warning: the data scorer predicts nothing that is clear of chance: Spearman 0.100 on 4 validation rows"
    for _ in range(2):  # and again when the fit is up to date
        assert main(STAGE, [*words, *keys]) == 0
        printed = capsys.readouterr().out
        assert printed.count(said) == 2 and printed.rindex(said) > printed.index("scored 60 of 60 rows")
        (tmp_path / "out.jsonl").unlink()
    report = (tmp_path / "out.jsonl.work/report.txt").read_text()
    assert "\nwarning: the data scorer predicts nothing that is clear of chance" in report
    facts = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["facts"]
    assert facts["validation_rows"] == 4 and facts["spearman_interval"][0] < 0
    shared = [f"scorer_checkpoint={tmp_path / 'out.jsonl.work/fit/scorer'}"]
    assert main(STAGE, [words[0], str(tmp_path / "shared.jsonl"), "lqs", *shared]) == 0
    assert capsys.readouterr().out.count(said) == 2
