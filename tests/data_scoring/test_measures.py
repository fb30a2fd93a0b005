"""What the scores of lqs and pds go along with: literals, and a run against its own stored sweep."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from data_common.calls.cli import main
from data_common.models.samples import Samples
from data_scoring.engines.influence.measures import line_breaks, measures
from data_scoring.entry import STAGE
from tests.data_scoring.test_annotate_fit_score import KEYS, write_rows
from tests.models import save_model


def save_sweep(folder, **steps):
    for name, (dots, norms, co_state) in steps.items():
        number = int(name.removeprefix("at"))
        np.savez(folder / f"step-{number:06}.npz", dots=dots, norms=np.array(norms), co_state_norm=co_state)


def test_measures_of_literals(tmp_path):
    save_sweep(
        tmp_path,
        at0=(np.array([4.0, 3, 2, 0]), [4.0, 2, 1, 0], 2.0),
        at5=(np.array([1.0, 2, 3, 0]), [2.0, 2, 1, 0], 1.0),
        at10=(np.zeros(4), [2.0, 1, 1, 0], 0.0),
    )
    # cosines .5 .75 1 0 and .5 1 3 0; ratios 2 1 1 0 and 1 2 1 0; a gradient that vanishes counts as 0
    gamma, others = np.array([1.0, 2, 3, 0]), {"length": np.array([4, 3, 2, 9]), "line_breaks": np.zeros(4)}
    found = measures(gamma, tmp_path, [0, 5], 5, others)
    spread = [np.std(ratio) / np.mean(ratio) for ratio in ([2, 1, 1, 0], [1, 2, 1, 0])]
    assert found == {
        "learnability_spread": pytest.approx(np.mean(spread), abs=1e-4),
        "spearman_with_cosine": 1.0,
        "spearman_with_minus_gradient_norm": pytest.approx(spearmanr(gamma, [-3, -2, -1, 0]).statistic, abs=1e-4),
        "spearman_with_learnability": pytest.approx(spearmanr(gamma, [1.5, 1.5, 1, 0]).statistic, abs=1e-4),
        "spearman_with_length": -1.0,
    }
    assert measures(gamma, tmp_path, [0, 5], None, {}).keys() == {
        "spearman_with_cosine",
        "spearman_with_minus_gradient_norm",
    }


def test_line_breaks_are_counted_within_each_sample():
    index = np.array([[0, 9, 1, 0, 4], [0, 9, 1, 4, 8], [0, 9, 3, 0, 2], [0, 9, 4, 0, 0]])
    texts = ["a\n\nbcdef\n", "\nxyz\n\n", "\n"]  # of rows 1, 3 and 4
    np.testing.assert_array_equal(line_breaks(texts, Samples(np.zeros(9), index)), [0.5, 0, 0.5, 0])


@pytest.mark.parametrize("method", ["lqs", "pds"])
@pytest.mark.parametrize("long_rows", ["cut", "mean"])
def test_report_and_manifest_tell_what_a_score_goes_along_with(method, long_rows, tmp_path, capsys):
    texts = write_rows(tmp_path / "in.jsonl", 40)
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"text": text.replace("a ", "a\n")}) + "\n" for text in texts)
    )
    write_rows(tmp_path / "target.jsonl", 5, seed=1)
    model = save_model(tmp_path / "model")
    keys = [f"annotator_model={model}", f"target_data={tmp_path / 'target.jsonl'}", *KEYS, f"long_rows={long_rows}"]
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), method, *keys]
    assert main(STAGE, words) == 0
    work = tmp_path / "out.jsonl.work"
    facts = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["facts"]
    steps = [np.load(work / f"annotate/sweep/step-{step:06}.npz") for step in (0, 2)]
    cosine = sum(step["dots"] / step["norms"] / step["co_state_norm"] for step in steps)
    expected = spearmanr(np.load(work / "annotate/gamma.npy"), cosine).statistic
    assert facts["spearman_with_cosine"] == pytest.approx(expected, abs=1e-4)
    names = {"cosine", "minus_gradient_norm", "length", "line_breaks"} | (
        {"learnability"} if method == "lqs" else set()
    )
    assert {name for name in facts if name.startswith("spearman_with")} == {f"spearman_with_{name}" for name in names}
    assert ("learnability_spread" in facts) == (method == "lqs")
    assert f"spearman_with_length: {facts['spearman_with_length']}\n" in (work / "report.txt").read_text()
    capsys.readouterr()
    for path in (work / "annotate/sweep").glob("*"):
        path.unlink()
    (tmp_path / "out.jsonl").unlink()
    assert main(STAGE, words) == 0 and "measures: up to date" in capsys.readouterr().out
    for path in [*(work / "measures").glob("*")]:
        path.unlink()
    (tmp_path / "out.jsonl").unlink()
    assert main(STAGE, words) == 0 and "is not there any more" in capsys.readouterr().out
