"""A page of rows and pictures: other people's text stays text, nothing is fetched, pictures show the numbers."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from data_common.reports import page as pages
from data_common.reports.axes import data_range, round_numbers, spelled_alike
from data_common.reports.page import Entry, Section, Table, write_page
from data_common.reports.pictures import (
    across,
    beside_names,
    boxes,
    histogram,
    length_axis,
    plain_axis,
    points,
    shares,
    upward,
)
from data_common.reports.sample import Row

HOSTILE = [
    "<script>document.title = 'owned'</script>",
    "</script></style></textarea></title>-->",
    "<!-- <script> <![CDATA[ {{ 7 * 7 }} {% raw %} &lt;b&gt; &#60;",
    "\u2028\u2029\x00\x07\x1b[31m\u202eevil\u2066\ud800\ufeff\x85",
    "<img src=http://example.com/x onerror=alert(1)>\" ' ` onload=alert(1)",
]
URL = re.compile(r"(?:https?:)?//|url\(|@import", re.IGNORECASE)


class Reader(HTMLParser):
    """The elements of a page with their attributes, and the text of each kind of element."""

    def __init__(self, content: str):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.open = [], {}, []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open = [*self.open, tag] if tag not in ("meta", "input") else self.open

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> inside {self.open}"
        self.open = self.open[:-1]

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts[tag] = self.texts.get(tag, "") + data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


def hostile_section() -> Section:
    rows = [Entry(Row(text, len(text), 0, {text: text}), text, text, label=text, x=1.0) for text in HOSTILE]
    table = Table(HOSTILE, [HOSTILE])
    values = np.arange(5.0)
    axes = [plain_axis(HOSTILE[n], values, *across()) for n in (0, 1)]
    pictures = [histogram({"": values}, axes[0]), boxes(dict.fromkeys(HOSTILE, values), axes[1])]
    return Section(HOSTILE[0], HOSTILE[1], pictures, dict.fromkeys(["kept"], HOSTILE[2]), table, rows, HOSTILE[3])


def hostile(folder) -> str:
    write_page(folder / "page.html", HOSTILE[0], HOSTILE[3], Table([], [HOSTILE]), [hostile_section()])
    return (folder / "page.html").read_text(encoding="utf-8")


def test_text_of_other_people_is_text(tmp_path):
    content = hostile(tmp_path)
    found = Reader(content)
    assert not found.open
    tags = [tag for tag, _ in found.elements]
    assert tags.count("script") == tags.count("style") == 1 and "img" not in tags
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert found.texts["script"] == (pages.TEMPLATES / "page.js").read_text(encoding="utf-8")
    assert HOSTILE[0] in found.texts["h1"] and HOSTILE[1] in found.texts["dd"] and HOSTILE[2] in found.texts["b"]
    assert not re.search(r"[\x00\x07\x1b\x85\u2028\u2029\u202e\u2066\ufeff\ud800]", content)
    assert r"<mark>\u2028</mark>" in content and r"<mark>\x00</mark>" in content and r"<mark>\ud800</mark>" in content


def test_nothing_is_fetched_and_only_its_own_script_may_run(tmp_path):
    found = Reader(hostile(tmp_path))
    policy = next(a["content"] for _, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(found.texts[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
        assert not URL.search(re.sub("^ *//.*$", "", found.texts[kind], flags=re.M))
    wanted = {"src", "href", "action", "style", "srcset", "poster", "data", "xlink:href"}
    assert not [attributes for _, attributes in found.elements if wanted & attributes.keys()]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    assert hostile(tmp_path) == hostile(tmp_path)


@pytest.mark.parametrize(
    "text", ["\0" * 3000, "文" * 3000, "<&>" * 1000, "a" * 3000], ids=["hidden", "wide", "escaped", "a"]
)
def test_a_page_stays_small_whatever_the_texts_hold(tmp_path, monkeypatch, text):
    """On a smaller scale: the least that is shown of each row is a sixteenth of what it may take."""
    monkeypatch.setattr(pages, "LARGEST", pages.LARGEST // 16)
    row = Row(text[:2000], len(text), 0, {f"{n} {text[:70]}": text[:80] for n in range(40)})
    sections = [Section("rows", entries=[Entry(row, "a:1", "b")] * (320 // 16))]
    write_page(tmp_path / "page.html", "page", "", Table([], []), sections)
    assert 10_000 < (tmp_path / "page.html").stat().st_size < 2_000_000 // 16


def test_a_short_row_is_whole_and_a_long_one_is_folded(tmp_path):
    texts = ["short", "long " * 100, "two\nlines"]
    rows = [Entry(Row(text, len(text), 0), "a:1", "row") for text in texts] + [Entry(Row("x" * 2000, 9999, 0), "", "")]
    write_page(tmp_path / "page.html", "page", "", Table([], []), [Section("rows", entries=rows)])
    found = Reader((tmp_path / "page.html").read_text())
    assert [tag for tag, _ in found.elements].count("details") == 3
    assert texts[1] in found.texts["pre"] and texts[2] in found.texts["pre"] and "short" not in found.texts["pre"]
    assert "the first 2,000 of 9,999 characters" in found.texts["p"]


def shapes(picture: str, name: str) -> list[str]:
    root = ElementTree.fromstring(picture)
    return [one.get("d") for one in root.iter("path") if name in one.get("class", "").split()]


def test_bars_are_as_high_as_numpy_counts():
    generator = np.random.default_rng(0)
    parts = {"kept": generator.normal(size=400), "dropped": generator.normal(1, 2, size=500)}
    x = plain_axis("score", np.concatenate(list(parts.values())), *across())
    picture = histogram(parts, x)
    drawn = {
        name: [tuple(map(float, re.findall(r"-?[\d.]+", bar))) for bar in shapes(picture, name)[0].split("z")[:-1]]
        for name in parts
    }
    edges = np.linspace(x.low, x.high, 32)
    counts = {name: np.histogram(values, edges)[0] for name, values in parts.items()}
    heights = {name: np.array([bottom - top for _, bottom, top, _, _ in bars]) for name, bars in drawn.items()}
    unit = heights["kept"].sum() / counts["kept"].sum()
    for name in parts:
        np.testing.assert_allclose(heights[name], unit * counts[name][counts[name] > 0], atol=0.11)
    assert [bar[0] for bar in drawn["kept"]] == pytest.approx(x(edges[:-1])[counts["kept"] > 0], abs=0.06)


def test_points_lie_where_their_values_are():
    along, up = np.array([0.0, 5.0, 10.0, np.nan]), np.array([1.0, 3.0, 2.0, 0.0])
    x, y = plain_axis("a", along[:3], *across()), plain_axis("b", up[:3], *upward())
    [path] = shapes(points(x, y, {"": (along, up)}, "told"), "dots")
    places = [tuple(map(float, one.split())) for one in re.findall(r"M([\d.]+ [\d.]+)h0", path)]
    (left, right), (bottom, top) = across(), upward()
    assert places == [(left, bottom), ((left + right) / 2, top), (right, (bottom + top) / 2)]


def test_a_box_has_the_quartiles():
    values = np.arange(101.0)
    x = plain_axis("", values, *beside_names())
    picture = ElementTree.fromstring(boxes({"one": values, "two": values / 2}, x))
    box, other = (one for one in picture.iter("rect") if one.get("class") == "box")
    assert float(box.get("x")) == pytest.approx(x(np.array(25)), abs=0.1)
    assert float(box.get("width")) == pytest.approx(2 * float(other.get("width")), abs=0.2)


def test_shares_add_up():
    picture = ElementTree.fromstring(shares({"a": {"kept": 0.25, "dropped": 0.75}}, "share"))
    kept, dropped = (one for one in picture.iter("rect"))
    assert float(dropped.get("width")) == pytest.approx(3 * float(kept.get("width")), abs=0.3)
    assert float(kept.get("x")) + float(kept.get("width")) == pytest.approx(float(dropped.get("x")), abs=0.2)


RANGES = [[0.0], [7.0, 7.0], [1e17] * 3, [1.0, 1.0 + 2**-52], [-1e-300, 0, 1e-300], [5e-324], [-1.7e308, 1.7e308]]
RANGES += [[1.7e308], [0, 1], [-3, 1e6], [1_000_000.1, 1_000_000.3], [0, 1e-12], [2, 3, 1e12]]


@pytest.mark.parametrize("values", RANGES, ids=str)
def test_axes_of_every_range(values):
    values = np.array(values, float)
    low, high = data_range(values)
    assert np.isfinite([low, high]).all() and low < high
    numbers = round_numbers(low, high)
    close = 1e-8 * (high / 4 - low / 4)
    assert 2 <= len(numbers) <= 8 and min(numbers) >= low - close and max(numbers) <= high + close
    texts = spelled_alike(numbers)
    assert len(set(texts)) == len(texts)
    read = [float(text.replace(",", "")) for text in texts]
    assert read == pytest.approx(numbers, rel=1e-3, abs=1e-3 * (numbers[1] - numbers[0]))
    axis = plain_axis("score", values, *across())
    picture = histogram({"": values}, axis)
    assert "nan" not in picture and "inf" not in picture
    assert ((axis(values) >= across()[0]) & (axis(values) <= across()[1])).all()


@pytest.mark.parametrize("lengths", [[1], [5, 5], [1, 10**9], [3, 40], [100, 101]])
def test_an_axis_of_lengths(lengths):
    axis = length_axis("characters", np.array(lengths), *across())
    ticks = axis.ticks()
    assert len(ticks) >= 2 and all(across()[0] - 0.1 <= place <= across()[1] + 0.1 for place, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)
    if lengths == [1, 10**9]:
        assert [text for _, text in ticks][-2:] == ["100,000,000", "1,000,000,000"]


def test_many_long_names_of_groups_are_cut():
    picture = boxes({"g" * 500 + str(n): np.arange(3.0) for n in range(3)}, plain_axis("s" * 500, np.arange(3.0), 0, 9))
    assert max(map(len, re.findall(r">([^<]+)</text>", picture))) <= 110
