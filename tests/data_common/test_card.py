"""Data cards: the chain back to the sources, what is not as it was, licences, and text that stays text."""

import html
import json
import re
import shutil
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import utils
from data_common.calls.cli import main
from data_common.card.chain import Link, chain
from data_common.card.page import card
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from model_train.entry import STAGE as TRAINING
from tests.golden import write_inputs

STAGES = {"score": SCORING, "select": SELECTION, "order": ORDERING, "train": TRAINING}
CALLS = [
    "score in.jsonl scored.jsonl dsir target_data=target.jsonl workers=1 score_field=fit",
    "select scored.jsonl selected.jsonl top-r r=0.5 score_field=fit",
    "order selected.jsonl ordered.jsonl folding score_field=fit",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder in which rows were scored, selected and ordered."""
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    for words in CALLS:
        call(words)
    return tmp_path


def call(words: str) -> None:
    stage, *rest = words.split()
    assert main(STAGES[stage], rest) == 0


def made(*words: str) -> str:
    """The card that a call writes."""
    assert utils.main(["--card", *words]) == 0
    own = f"{words[0].removesuffix('.manifest.json')}.card.md"
    return Path(words[words.index("--save-dir") + 1] if "--save-dir" in words else own).read_text(encoding="utf-8")


def cells(text: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading; an escaped bar belongs to its cell."""
    table = text.split(f"{heading}\n")[1].strip().split("\n\n")[0].split("\n")
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in table[2:]]


def test_the_chain_of_a_tokenized_corpus(folder):
    call("train ordered.jsonl model tokens tokenize format=llm.c")
    links = chain("tokens")
    assert [link.name for link in links] == [
        "in.jsonl",
        "target.jsonl",
        "scored.jsonl",
        "selected.jsonl",
        "ordered.jsonl",
        "model",
        "tokens",
    ]
    assert [link.name for link in links if link.is_source] == ["in.jsonl", "target.jsonl", "model"]
    text = made("tokens", "--licence", "in.jsonl=CC0-1.0", "--licence", "target.jsonl=MIT | Apache-2.0")
    tokens = json.loads(Path("tokens.manifest.json").read_text())["tokens"]
    for line in (
        "| scored by | dsir (field fit; higher is better) |",
        "| selected by | top-r, 48 to 24 rows |",
        "| ordered by | folding, 24 to 24 rows |",
        f"| tokens | {tokens:,} in 24 documents (llm.c) |",
        "### 4. Training, tokenize: tokens",
        "- better: fit: higher",
    ):
        assert line in text.split("\n")
    table = {row[0]: row for row in cells(text, "## Sources")}
    assert {name: (row[1], row[-1]) for name, row in table.items()} == {
        "in.jsonl": ("data", "CC0-1.0"),
        "target.jsonl": ("target\\_data", "MIT \\| Apache-2.0"),
        "model": ("tokenizer", "not given"),
    }
    for name, row in table.items():
        recorded = next(link.content for link in links if link.name == name)
        assert row[3:5] == [f"{recorded['bytes']:,}", recorded["xxh3"]]


def test_the_summary_is_of_the_calls_that_made_the_rows(folder):
    call("order selected.jsonl good.jsonl sorting score_field=fit")
    call("score in.jsonl again.jsonl dsir target_data=good.jsonl workers=1 score_field=near")
    text = made("again.jsonl")
    assert [row[0] for row in cells(text, "measured again.")] == ["bytes", "xxh3", "scored by"]
    assert "| scored by | dsir (field near; higher is better) |" in text and "### 3. Ordering, sorting: good" in text
    assert {link.name: link.has_rows for link in chain("again.jsonl")} == {
        "in.jsonl": True,
        "target.jsonl": False,
        "scored.jsonl": False,
        "selected.jsonl": False,
        "good.jsonl": False,
        "again.jsonl": True,
    }


def test_the_same_manifests_give_the_same_card_wherever_they_lie(folder):
    first = made("ordered.jsonl")
    assert made("ordered.jsonl", "--save-dir", "other.md") == first == made("ordered.jsonl.manifest.json")
    shutil.copytree(folder, folder / "moved")
    assert made("moved/ordered.jsonl") == first


def test_one_licence_for_all_and_what_the_hub_declares(folder):
    assert [row[-1] for row in cells(made("ordered.jsonl", "--licence", "CC0-1.0"), "## Sources")] == ["CC0-1.0"] * 2
    record = {"stage": "utils", "method": "model", "config": {"id": "owner/name"}, "inputs": {}, "licence": "mit"}
    content = {"path": "here", "bytes": 1, "xxh3": "0"}
    links = [Link("here", content, record | {"output": content, "revision": "abc"}, "data")]
    assert cells(card(links, {}), "## Sources") == [
        ["here", "data", "model owner/name, revision abc", "1", "0", "mit (as the hub says)"]
    ]
    assert cells(card(links, {"owner/name": "GPL"}), "## Sources")[0][-1] == "GPL"


def test_what_was_made_again_since_is_a_source_that_says_so(folder):
    call("score in.jsonl scored.jsonl dsir target_data=target.jsonl workers=1 score_field=fit buckets=99")
    text = made("ordered.jsonl")
    assert [row[:3] for row in cells(text, "## Sources")] == [
        ["scored.jsonl", "data", "changed or made again since it was read"]
    ]
    assert "scored by" not in text
    Path("selected.jsonl.manifest.json").write_text("{broken")
    assert [row[0] for row in cells(made("ordered.jsonl"), "## Sources")] == ["selected.jsonl"]


def test_the_shards_of_a_folder_are_one_step(folder):
    call("select scored.jsonl parts top-k k=30 score_field=fit rows_per_shard=7")
    call("order parts again.jsonl shuffle")
    assert [link.name for link in chain("again.jsonl")][-2:] == ["parts", "again.jsonl"]
    assert "| selected by | top-k, 48 to 30 rows |" in made("again.jsonl")
    with open("parts/more.jsonl", "w") as file:
        file.write("{}\n")
    names = [link.name for link in chain("again.jsonl")]
    assert len(names) == 6 and all(name.startswith("parts/") for name in names[:-1])


def test_names_and_values_are_text_whatever_they_hold(folder):
    odd = "a|b`<img src=x>[y](http:z)\u202e_*#.jsonl"
    shutil.copy("in.jsonl", odd)
    assert main(ORDERING, [odd, "odd.jsonl", "shuffle"]) == 0
    text = made("odd.jsonl", "--licence", "<script>alert(1)</script>\n# x")
    assert len(cells(text, "## Sources")[0]) == 6 and "\u202e" not in text and "\n# x" not in text
    shown = MarkdownIt("commonmark").enable("table").render(text)
    tags = set(re.findall(r"</?(\w+)", shown))
    assert tags <= {"h1", "h2", "h3", "p", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "a"}
    assert set(re.findall(r'href="([^"]*)"', shown)) <= {address for address in re.findall(r"<(https://[^>]*)>", text)}
    first = [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", shown.split("licence</th>")[1])[:6]]
    assert first[0] == odd.replace("\u202e", "\\u202e") and first[-1] == "<script>alert(1)</script>\\n# x"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in.jsonl"], "--card in.jsonl is no manifest of an output"),
        (["ordered.jsonl", "--licence", "none.jsonl=MIT"], "the sources are in.jsonl, target.jsonl"),
        (["ordered.jsonl", "--licence", "in.jsonl="], "--licence in.jsonl=: it is empty"),
        (["ordered.jsonl", "--save-dir", "in.jsonl"], "in.jsonl exists and is no data card"),
        (["ordered.jsonl", "--id", "x"], "--id does not go with --card"),
        (["ordered.jsonl", "--replay", "x"], "--replay does not go with --card"),
        (["changed.jsonl"], "changed.jsonl: it was changed since its manifest was written"),
    ],
)
def test_mistakes(words, message, folder, capsys):
    call("order selected.jsonl changed.jsonl shuffle")
    with open("changed.jsonl", "a") as file:
        file.write("{}\n")
    before = sorted(folder.iterdir())
    capsys.readouterr()
    assert utils.main(["--card", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and sorted(folder.iterdir()) == before


def test_a_licence_goes_with_a_card(capsys):
    assert utils.main(["--replay", "x", "--licence", "MIT"]) == 2
    assert "--licence goes with --card" in capsys.readouterr().err
