"""Two scores against each other: by brute force, by SciPy, in files of another order; and every mistake in one line."""

import json
import re

import numpy as np
import pytest
from scipy.stats import spearmanr

from data_common.messages.errors import exit_code
from data_scoring.compare import entry
from data_scoring.compare.agreement import best, by_group, overlaps, rank_difference
from data_scoring.compare.sides import with_occurrence
from tests.data_common.test_report_page import Reader

N = 200


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A with scores of which higher is better, B in another order, with one row less and one more; the rows of both."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    rows = [
        {
            "text": f"text {n}",
            "one": float(generator.normal()),
            "two": int(generator.integers(9)),
            "source": "xyz"[n % 3],
        }
        for n in range(N)
    ]
    write(tmp_path / "a.jsonl", rows)
    order = generator.permutation(N - 1)
    write(tmp_path / "b.jsonl", [{"text": "other", "two": 4}, *(rows[n] for n in order)])
    return tmp_path, rows[: N - 1]


def run(*words, expected=0):
    assert exit_code(lambda: entry.run(list(words))) == expected


def cells(text: str, title: str) -> list[list[str]]:
    lines = text.split(title)[1].strip().split("\n\n")[0].split("\n")[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


WAYS = ("score_field=one", "other_field=two", "direction=higher", "other_direction=lower")


def test_against_brute_force(folder, capsys):
    rows = folder[1]
    run("a.jsonl", "b.jsonl", "out.html", *WAYS, "group_field=source", "r=[0.1,0.5]")
    out = capsys.readouterr().out
    one, two = [row["one"] for row in rows], [-row["two"] for row in rows]
    assert "rows in both files: 199\nonly in one: 1\nonly in two: 1\n" in out
    assert f"Spearman: {spearmanr(one, two).statistic:.4f}" in out
    tops = {}
    for r, shown in zip((0.1, 0.5), cells(out, "Overlap of the best rows"), strict=True):
        k = int(r * len(rows))
        tops[r] = [{*sorted(range(len(rows)), key=lambda n: -score[n])[:k]} for score in (one, two)]
        both = len(tops[r][0] & tops[r][1])
        assert shown == [f"{r:g}", str(k), str(both), f"{both / k:.1%}", f"{r:.1%}"]
    for name, count, correlation, *shares in cells(out, "Agreement by source"):
        mine = [n for n, row in enumerate(rows) if row["source"] == name]
        assert int(count) == len(mine)
        assert correlation == f"{spearmanr([one[n] for n in mine], [two[n] for n in mine]).statistic:.3f}"
        assert shares == [f"{len(top & {*mine}) / len(mine):.1%}" for top in tops[0.5]]


def test_the_page_shows_where_the_scores_disagree_most(folder):
    path, rows = folder
    run("a.jsonl", "b.jsonl", "out.html", *WAYS)
    page = (path / "out.html").read_text(encoding="utf-8")
    assert not Reader(page).open
    one, two = np.array([row["one"] for row in rows]), np.array([-row["two"] for row in rows])
    place = [[((score < s).sum() + (score <= s).sum()) / 2 / len(score) for s in score] for score in (one, two)]
    most = np.argmax(np.subtract(*place)), np.argmin(np.subtract(*place))
    sections = [part for part in page.split("<h2>") if "puts highest above" in part]
    for section, row in zip(sections, most, strict=True):
        assert re.search(r"a\.jsonl:(\d+) ", section)[1] == str(row + 1)
        assert f"one {rows[row]['one']:.5g} · two {rows[row]['two']:.5g}" in section
        assert section.count('class="heading"') == 15


def test_two_fields_of_one_file_and_the_default_result(folder, capsys):
    path, _ = folder
    run("a.jsonl", *WAYS)
    assert "rows in both files: 200" in capsys.readouterr().out and (path / "score-comparison.html").exists()
    content = (path / "score-comparison.html").read_bytes()
    run("a.jsonl", "a.jsonl", *WAYS)
    assert (path / "score-comparison.html").read_bytes() == content


def test_a_score_with_itself_and_with_its_opposite(folder, capsys):
    run("a.jsonl", "b.jsonl", "score_field=one", "direction=higher", "other_direction=higher", expected=2)
    run("a.jsonl", "a.jsonl", "score_field=one", "direction=higher", "other_direction=higher")
    assert "Spearman: 1.0000" in (out := capsys.readouterr().out) and out.count("100.0%") == 3
    run("a.jsonl", "a.jsonl", "score_field=one", "direction=higher", "other_direction=lower")
    assert "Spearman: -1.0000" in (out := capsys.readouterr().out) and out.count("| 0.0%") == 3


def test_rows_of_one_text_are_matched_in_their_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl", [{"text": t, "s": n} for n, t in enumerate("xxyx")])
    write(tmp_path / "b.jsonl", [{"text": t, "s": n} for n, t in enumerate("yxx")])
    run("a.jsonl", "b.jsonl", "score_field=s", "direction=higher", "other_direction=higher")
    assert "rows in both files: 3\nonly in a.jsonl: 1\nonly in b.jsonl: 0\nSpearman: -0.5000" in capsys.readouterr().out


def test_keys_of_equal_digests_differ():
    digest = np.array([5, 7, 5, 5, 7], np.uint64)
    assert len(set(with_occurrence(digest).tolist())) == 5 and with_occurrence(digest)[[0, 1]].tolist() == [5, 7]
    assert with_occurrence(digest[:0]).tolist() == []


def test_ties_at_the_cut_go_to_the_earlier_row():
    assert best(np.array([1.0, 2.0, 1.0, 1.0]), 0.5).tolist() == [True, True, False, False]
    assert overlaps(np.zeros(4), np.zeros(4), [0.5])[0].both == 2
    assert rank_difference(np.array([1.0, 2.0]), np.array([2.0, 1.0])).tolist() == [-0.5, 0.5]
    assert by_group(np.zeros(2), np.zeros(2), np.array(["a", "a"], object), 0.5)[0].spearman is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.jsonl"], "error: B.jsonl is missing, or other_field=FIELD for another score in A; usage: "),
        (["r=[0.5]"], "error: A.jsonl is missing; usage: "),
        (["a.jsonl", "b.jsonl", "c.jsonl"], "error: c.jsonl: two files are compared, and a RESULT ends with .html"),
        (["a.jsonl", "none.jsonl", "score_field=one", *WAYS[2:]], "error: no such file: none.jsonl"),
        (["a.jsonl", *WAYS[:2]], "error: is a higher or a lower one better? No manifest beside the input tells: set d"),
        (["a.jsonl", *WAYS[:3]], "error: is a higher or a lower two better? No manifest beside the input tells: set o"),
        (["a.jsonl", *WAYS, "text_field=one"], "error: text_field=one is a score or a group too"),
        (["a.jsonl", *WAYS, "r=[1.5]"], "error: r: [1.5] is not valid: "),
        (["a.jsonl", "--plot"], "error: unknown option --plot"),
        (["a.jsonl", "c.jsonl", *WAYS], "error: a.jsonl and c.jsonl have no text in common"),
        (["a.jsonl", "b.jsonl", "score_field=one", *WAYS[2:]], "error: b.jsonl:1: one is missing"),
        (["a.jsonl", "a.jsonl/out.html", *WAYS], "error: cannot write a.jsonl/out.html: "),
    ],
)
def test_mistakes_are_told_in_one_line(folder, capsys, words, message):
    write(folder[0] / "c.jsonl", [{"text": "t", "two": 1}])
    run(*words, expected=2)
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1
    assert not (folder[0] / "score-comparison.html").exists()


def test_directions_of_manifests(folder, capsys):
    from data_scoring.entry import command

    assert command(["a.jsonl", "s.jsonl", "combine", "fields=[two]", "lower_is_better=[two]", "score_field=new"]) == 0
    run("s.jsonl", "score_field=new", "other_field=two", "other_direction=lower")
    assert "Spearman: 1.0000" in capsys.readouterr().out
