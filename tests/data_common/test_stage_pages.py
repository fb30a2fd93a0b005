"""The pages that stages write beside their outputs: they show the rows that the stage wrote, and only when asked."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.reports.sample import read_sample, spread
from data_common.rows.columns import scan
from data_common.rows.jsonl import open_source
from data_common.rows.statistics import spearman
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from tests.data_common.test_report_page import Reader

ROWS = 500


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    score = np.random.default_rng(0).permutation(ROWS)
    rows = [
        {"text": f"text {n} " + "word " * (n % 7), "score": int(score[n]), "meta": {"source": "abc"[n % 3]}}
        for n in range(ROWS)
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def rows_of(page: str) -> list[tuple[str, float, str, int]]:
    """What a page shows first along its slider: (kind, number of the heading, file, line)."""
    along = page[page.index('<section class="along"') :]
    along = along[: along.index("</section>")]
    found = re.findall(
        r'<p class="heading"><b>\D*([\d.,]+)</b>(?: <span class="kind (\w+)">\w+</span>)? .*?>(\S+):(\d+) ', along
    )
    return [(kind, float(number.replace(",", "")), file, int(line)) for number, kind, file, line in found]


def call(stage, *words):
    assert main(stage, [*words]) == 0


def test_a_selection_shows_what_it_kept_and_dropped(folder):
    call(SELECTION, "in.jsonl", "out.jsonl", "top-r", "r=0.1", "direction=higher", "report=true")
    page = (folder / "out.jsonl.report.html").read_text(encoding="utf-8")
    found = rows_of(page)
    kept = {number for kind, number, _, _ in found if kind == "kept"}
    assert kept == set(range(450, 500)) and len(found) == 50 + 150
    assert all(number < 450 for kind, number, _, _ in found if kind == "dropped")
    assert [number for _, number, _, _ in found] == sorted(number for _, number, _, _ in found)
    lines = (folder / "in.jsonl").read_text().split("\n")
    assert all(json.loads(lines[line - 1])["score"] == number for _, number, _, line in found)
    assert "Kept and dropped by meta.source" in Reader(page).texts["h2"]


def test_groups_of_the_call_are_counted_over_all_rows(folder):
    words = ["top-r", "r=0.5", "direction=higher", "group_field=meta.source", "report=true"]
    call(SELECTION, "in.jsonl", "out.jsonl", *words)
    page = (folder / "out.jsonl.report.html").read_text(encoding="utf-8")
    for name, rows in (("a", 167), ("b", 167), ("c", 166)):
        row = f'<th scope="row">{name}</th><td>{rows}</td><td>83</td><td>{83 / rows:.1%}</td>'
        assert row in page


def test_an_order_shows_rows_at_their_places(folder):
    call(ORDERING, "in.jsonl", "out.jsonl", "sorting", "select=top-r", "select.direction=higher", "report=true")
    page = (folder / "out.jsonl.report.html").read_text(encoding="utf-8")
    found = rows_of(page)
    written = [json.loads(line)["score"] for line in (folder / "out.jsonl").read_text().split("\n")[:-1]]
    assert [number for _, number, _, _ in found] == written == [*range(250, 500)]
    labels = re.findall(r'data-label="row ([\d,]+) of 250, score (\d+)"', page)
    assert [(int(place), int(score)) for place, score in labels] == [*zip(range(1, 251), written, strict=True)]
    titles = Reader(page).texts["h2"]
    assert "score along the order" in titles and "position by meta.source" in titles and "Rows by score" in titles


@pytest.mark.parametrize(
    ("stage", "words"), [(SELECTION, ["top-k", "k=0", "direction=lower"]), (ORDERING, ["shuffle"])]
)
def test_pages_of_calls_without_rows_or_scores(folder, stage, words):
    call(stage, "in.jsonl", "out.jsonl", *words, "report=true")
    page = (folder / "out.jsonl.report.html").read_text(encoding="utf-8")
    assert not Reader(page).open and rows_of(page)


def test_rows_without_the_text_field_are_shown_as_json(folder):
    (folder / "in.jsonl").write_text(
        '{"score": 1, "body": "<b>"}\n{"score": 2, "text": "words", "deep": ' + "[" * 500 + "]" * 500 + "}\n"
    )
    call(ORDERING, "in.jsonl", "out.jsonl", "sorting", "report=true")
    page = (folder / "out.jsonl.report.html").read_text(encoding="utf-8")
    assert '{"score": 1, "body": "<b>"}' in Reader(page).texts["p"] and ">words<" in page


def test_a_page_is_made_when_asked_for_and_goes_with_its_output(folder):
    words = ("in.jsonl", "out.jsonl", "sorting")
    page = folder / "out.jsonl.report.html"
    call(ORDERING, *words)
    before = (folder / "out.jsonl").read_bytes()
    assert not page.exists()
    call(ORDERING, *words, "report=true")
    content = page.read_bytes()
    assert (folder / "out.jsonl").read_bytes() == before
    call(ORDERING, *words, "report=true", "cache=false")
    (folder / "out.jsonl").unlink()
    call(ORDERING, *words, "report=true")
    assert page.read_bytes() == content
    call(ORDERING, *words, "ascending=false")
    assert not page.exists()
    page.write_text("mine")
    call(ORDERING, *words)
    assert page.read_text() == "mine"


def test_a_scorer_shows_the_rows_of_its_report(folder):
    call(SCORING, "in.jsonl", "out.jsonl", "combine", "fields=[score]", "lower_is_better=[]", "score_field=new")
    work = folder / "out.jsonl.work"
    page = (work / "report.html").read_text(encoding="utf-8")
    told = re.findall(r"in\.jsonl:(\d+), ", (work / "report.txt").read_text())
    sections = {part.split("</h2>")[0]: part for part in page.split("<h2>")[1:]}
    shown = [re.findall(r"in\.jsonl:(\d+) ", sections[f"The 10 {end} rows"]) for end in ("best", "worst")]
    assert shown[0] == told[:10] and shown[1] == told[:9:-1]
    assert "new by meta.source" in sections and "new against length" in sections
    assert "score: +1.00" in page
    assert [number for _, number, _, _ in rows_of(page)] == sorted(number for _, number, _, _ in rows_of(page))


def test_default_calls_load_nothing_for_pages():
    code = "import sys, data_ordering.entry; print(sorted({'jinja2', 'markupsafe'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_spread_is_even_and_the_same_each_time():
    assert spread(3, 5).tolist() == [0, 1, 2] and spread(0, 5).tolist() == []
    chosen = spread(10_000, 300)
    assert (chosen == spread(10_000, 300)).all() and len(set(chosen)) == 300
    assert (chosen // (10_000 / 300)).astype(int).tolist() == [*range(300)] or (np.diff(chosen) <= 68).all()


def test_places_are_those_of_each_line(folder):
    (folder / "shards").mkdir()
    contents = ['{"a": 1}\n\n{"a": 2}\r\n{"a": 3}', '\ufeff{"a": 4}\n{"a": 5}\n']
    for number, content in enumerate(contents):
        (folder / f"shards/{number}.jsonl").write_text(content, newline="")
    with open_source("shards") as source:
        table = scan(source, [])
        starts = table.rows.start.tolist()
        wanted = ["shards/0.jsonl:1", "shards/0.jsonl:3", "shards/0.jsonl:4", "shards/1.jsonl:1", "shards/1.jsonl:2"]
        assert source.places(starts) == wanted == [source.place(start) for start in starts]
        assert source.places([*starts[::-1], starts[0]]) == [*wanted[::-1], wanted[0]]


def test_numbers_and_groups_of_a_sample(folder):
    rows = [{"text": "t", "n": n, "big": 10**400, "flag": n % 2 == 0, "s": "xy"[n % 2], "id": str(n)} for n in range(9)]
    rows[0] |= {"n": None, "s": None}
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open_source("in.jsonl") as source:
        sample = read_sample(source, scan(source, []).rows, np.arange(9), ["text"])
    assert set(sample.numbers()) == {"n"} and set(sample.groups()) == {"flag", "s"}
    assert np.isnan(sample.numbers()["n"][0]) and sample.numbers()["n"][1:].tolist() == [*range(1, 9)]
    assert sample.groups()["flag"][0] == "true" and sample.groups()["s"][0] == "null"


def test_spearman_is_that_of_scipy():
    from scipy.stats import spearmanr

    generator = np.random.default_rng(1)
    one, other = generator.integers(0, 9, 200).astype(float), generator.normal(size=200)
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)
    assert spearman(one, np.ones(200)) is None and spearman(one[:1], other[:1]) is None
