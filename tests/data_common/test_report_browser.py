"""The page in a real browser: no complaint, the slider moves the rows, text is text, nothing overlaps."""

import json

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.reports.page import Table, write_page
from data_ordering.entry import STAGE as ORDERING
from data_scoring.compare.entry import run as run_comparison
from data_scoring.entry import command
from data_selection.entry import STAGE as SELECTION
from tests.browser import needs_browser, opened
from tests.data_common.test_report_page import HOSTILE, hostile_section

pytestmark = needs_browser
FIRST = "[...document.querySelector('.along').querySelectorAll('.row:not([hidden])')]"
SHOWN = f"{FIRST}.map(row => row.querySelector('b').textContent)"
OVERLAPS = """(() => {
  const bad = [];
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll("text")].filter(t => t.textContent).map(t => [t, t.getBoundingClientRect()]);
    for (const [one, a] of boxes) {
      if (a.left < frame.left || a.right > frame.right || a.top < frame.top - 1 || a.bottom > frame.bottom)
        bad.push("outside: " + one.textContent);
      for (const [other, b] of boxes)
        if (one !== other && a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom)
          bad.push(one.textContent + " over " + other.textContent);
    }
  }
  return bad;
})()"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of a scorer, over rows with groups, two scores and hostile texts."""
    folder = tmp_path_factory.mktemp("report")
    generator = np.random.default_rng(0)
    texts = [*HOSTILE, *("word " * int(n) for n in generator.integers(1, 900, 400))]
    rows = [
        {"text": text.replace("\ud800", ""), "one": n, "two": float(generator.normal()), "source": f"source {n % 9}"}
        for n, text in enumerate(texts)
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"{folder}/in.jsonl", f"{folder}/out.jsonl", "combine", "fields=[one,two]", "lower_is_better=[]"]
    assert command(words) == 0
    return folder / "out.jsonl.work/report.html"


@pytest.fixture(scope="module")
def tab(report):
    with opened(report) as tab:
        yield tab


def test_no_complaint_and_nothing_is_asked_for(tab):
    assert tab.complaints == []
    assert tab.value("document.title") == "combine: combined"


def test_the_slider_moves_the_rows_and_the_mark(tab):
    def at(place):
        tab.value(f"slider = document.querySelector('input[type=range]'); slider.value = {place}; 0")
        tab.value("slider.dispatchEvent(new Event('input'))")
        mark = tab.value("document.querySelector('.along .mark').getBoundingClientRect().x")
        rows = [float(heading.split()[1]) for heading in tab.value(SHOWN)]
        return rows, mark, tab.value("document.querySelector('.along output').textContent")

    low, high = at(0), at(299)
    assert len(low[0]) == len(high[0]) == 5 and max(low[0]) < min(high[0])
    assert low[0] == sorted(low[0]) and low[1] < high[1] - 500
    assert low[2].startswith("quantile 0.0") and high[2].startswith(("quantile 0.99", "quantile 1.0"))
    middle = at(150)
    assert max(low[0]) < min(middle[0]) and max(middle[0]) < min(high[0])


def test_search_shows_the_rows_with_the_words(tab):
    def search(words):
        tab.value(f"field = document.querySelector('input[type=search]'); field.value = {words!r}; 0")
        tab.value("field.dispatchEvent(new Event('input'))")
        return tab.value(SHOWN), tab.value("document.querySelector('.along output').textContent")

    rows, told = search("WORD word")
    assert len(rows) == 50 and told.endswith("of 300 rows, the first 50 are shown")
    assert search("no such words")[0] == [] and search("no such words")[1] == "0 of 300 rows"
    assert len(search("")[0]) == 5


def test_nothing_overlaps_or_touches_the_edge(tab):
    assert tab.value("document.querySelectorAll('svg').length") >= 4
    assert tab.value(OVERLAPS) == []
    assert tab.value("document.documentElement.scrollWidth <= window.innerWidth")


def test_light_and_dark(tab):
    colours = set()
    for scheme in ("light", "dark"):
        tab.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        colours.add(tab.value("getComputedStyle(document.body).backgroundColor"))
        bar = tab.value("getComputedStyle(document.querySelector('.bar')).fill")
        assert bar not in colours and bar != "rgb(0, 0, 0)"
    assert len(colours) == 2


def test_hostile_text_runs_nothing(tmp_path):
    write_page(tmp_path / "page.html", HOSTILE[0], HOSTILE[1], Table([], [HOSTILE]), [hostile_section()])
    with opened(tmp_path / "page.html") as tab:
        assert tab.complaints == []
        assert tab.value("document.title") == HOSTILE[0]
        assert tab.value("document.scripts.length") == 1 and tab.value("document.images.length") == 0
        assert tab.value("[...document.querySelectorAll('dd')].some(dd => dd.textContent.startsWith('</script>'))")


def test_a_script_that_came_in_would_be_refused(tmp_path):
    """The second wall: had escaping failed, the page's policy stops the script."""
    write_page(tmp_path / "page.html", "page", "", Table([], []), [])
    content = (tmp_path / "page.html").read_text()
    (tmp_path / "page.html").write_text(content.replace("</h1>", "</h1><script>document.title = 'owned'</script>"))
    with opened(tmp_path / "page.html") as tab:
        assert tab.value("document.title") == "page" and "Content Security Policy" in json.dumps(tab.complaints)


def test_without_scripts_all_rows_are_there(report):
    with opened(report, scripts=False) as tab:
        root = tab.ask("DOM.getDocument")["root"]["nodeId"]
        nodes = tab.ask("DOM.querySelectorAll", nodeId=root, selector=".along .row:not([hidden])")["nodeIds"]
        assert len(nodes) == 300
        assert tab.ask("DOM.querySelectorAll", nodeId=root, selector=".controls[hidden]")["nodeIds"]


@pytest.mark.parametrize("kind", ["selection", "ordering", "comparison"])
def test_pages_of_other_stages(report, kind):
    scored = report.parent.parent / "out.jsonl"
    out = scored.with_name(kind)
    if kind == "selection":
        assert main(SELECTION, [str(scored), f"{out}.jsonl", "top-r", "score_field=combined", "report=true"]) == 0
    elif kind == "ordering":
        words = ["folding", "score_field=combined", "select=top-r", "report=true"]
        assert main(ORDERING, [str(scored), f"{out}.jsonl", *words]) == 0
    else:
        words = ["score_field=combined", "other_field=two", "other_direction=higher", "group_field=source"]
        run_comparison([str(scored), f"{out}.jsonl.report.html", *words])
    with opened(out.with_name(f"{kind}.jsonl.report.html")) as tab:
        assert tab.complaints == [] and tab.value(OVERLAPS) == []
        assert tab.value("document.documentElement.scrollWidth <= window.innerWidth")
        first = tab.value(SHOWN)
        tab.value("slider = document.querySelector('input[type=range]'); slider.value = 0; 0")
        tab.value("slider.dispatchEvent(new Event('input'))")
        assert len(first) == 5 and not set(first) & set(tab.value(SHOWN))
