"""The report of scores: its numbers by hand, the right rows, and distributions that are hard to draw."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from data_scoring.report import write_report


def report(folder, scores, higher_is_better=True, texts=None, asked=None):
    """The lines of a report over `scores`; `asked` collects the rows whose text was wanted."""

    def text_of(row: int) -> str:
        if asked is not None:
            asked.append(row)
        return texts[row] if texts else f"text of row {row}"

    scores = np.array(scores, float)
    path = write_report(
        folder, "lqs", "value", scores, higher_is_better, text_of, lambda row: f"in.jsonl:{row + 1}", {"spearman": 0.5}
    )
    assert path == folder / "report.txt"
    assert sorted(p.name for p in folder.iterdir()) == ["report.txt", "scores.png"]
    assert imread(folder / "scores.png").std() > 0.01
    return path.read_text(encoding="utf-8").split("\n")


def ranked(lines: list[str]) -> list[str]:
    return [line for line in lines if "in.jsonl:" in line]


def test_numbers_by_hand(tmp_path):
    lines = report(tmp_path, [1, 2, np.nan, 2, 5], higher_is_better=False)
    assert lines[0] == "lqs: value, lower is better"
    assert "rows: 5, with a score: 4" in lines
    assert "mean: 2.5, standard deviation: 1.5" in lines
    assert "rows whose score another row has too: 50.00%" in lines
    assert "spearman: 0.5" in lines
    quantiles = next(line for line in lines if line.startswith("quantiles: "))
    assert "0: 1," in quantiles and "0.25: 1.75," in quantiles and "0.5: 2," in quantiles and quantiles.endswith("1: 5")


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_ten_best_and_ten_worst_rows(tmp_path, higher_is_better):
    scores = np.random.default_rng(0).permutation(1000).astype(float)
    scores[scores == 999] = np.nan
    asked = []
    lines = ranked(report(tmp_path, scores, higher_is_better, asked=asked))
    values = [*range(998, 988, -1), *range(9, -1, -1)] if higher_is_better else [*range(10), *range(989, 999)]
    rows = [int(np.flatnonzero(scores == value)[0]) for value in values]
    assert asked == rows
    ranks = [*range(1, 11), *range(990, 1000)]
    assert lines == [
        f"{rank}. value {value}, in.jsonl:{row + 1}, {len(f'text of row {row}')} characters"
        for rank, value, row in zip(ranks, values, rows, strict=True)
    ]


def test_of_a_score_without_a_better_end_both_ends_are_shown(tmp_path):
    lines = report(tmp_path, [2, 9, 4], higher_is_better=None)
    assert lines[0] == "lqs: value, neither end is better"
    assert [line for line in lines if line.startswith("The ")] == ["The 3 highest rows", "The 3 lowest rows"]
    assert [line.split("in.jsonl:")[1].split(",")[0] for line in ranked(lines)] == ["2", "3", "1"] * 2


def test_texts_are_one_line_and_short(tmp_path):
    long = "a\u2028b \n\t c " + "x" * 1_000
    lines = report(tmp_path, [2, 1], texts=[long, "y" * 300])
    first = lines.index("1. value 2, in.jsonl:1, 1,009 characters")
    assert lines[first + 1] == "   a b c " + "x" * 294 + "…"
    assert "   " + "y" * 300 in lines


@pytest.mark.parametrize(
    "scores",
    [[0.0], [7.0, np.nan], [3.0] * 50, [1e17] * 3, [1.0, 1.0 + 2**-52], [-1e-300, 0, 1e-300], [0.0] * 15 + [1.0]],
    ids=["one", "one and NaN", "equal", "equal and huge", "nearly equal", "tiny", "fewer than twenty"],
)
def test_few_and_equal_scores(tmp_path, scores):
    count = int((~np.isnan(scores)).sum())
    lines = ranked(report(tmp_path, scores))
    assert len(lines) == 2 * min(10, count)
    assert lines[0].startswith("1. ") and lines[-1].startswith(f"{count}. ")


def test_outliers_do_not_flatten_the_histogram(tmp_path, monkeypatch):
    drawn, savefig = [], Figure.savefig

    def spy(figure, *arguments, **keys):
        drawn.append(figure.axes[0])
        savefig(figure, *arguments, **keys)

    monkeypatch.setattr(Figure, "savefig", spy)
    report(tmp_path, [*np.linspace(0, 1, 9_999), 1e12])
    (axis,) = drawn
    assert axis.get_xlim()[1] < 1.1
    # The quantiles fall on sorted scores 9.999 and 9989.001, counted from 0: 9 to 9990 are drawn.
    assert sum(bar.get_height() for bar in axis.patches) == 9_982
    assert axis.get_title() == "lqs: value, higher is better\n10,000 rows, 0.18% of them beyond the axis"


def test_needs_no_torch():
    code = "import sys, data_scoring.report; sys.exit(bool({'torch', 'transformers', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
