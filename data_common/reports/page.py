"""A page of pictures, tables and rows: one file without a network, readable without scripts, in light and dark.

All text is other people's: Jinja escapes it, and what is hidden in it is spelled out and marked. A policy in the page
lets its own script run, known by its digest, and nothing else.
"""

import base64
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from data_common.files.atomic import write_text
from data_common.messages.visible import IN_LINES, cut, spelled, visible
from data_common.reports.sample import Row

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
LARGEST = 1_900_000  # bytes of a page
# Characters of a text, the most that fit into LARGEST; of few characters follow few other fields.
EXCERPTS = (2_000, 1_000, 500, 250, 100, 30, 5)
FIRST = 240  # characters of a text that are seen before it is unfolded


@dataclass(frozen=True)
class Entry:
    """A row on the page."""

    row: Row
    place: str  # FILE:LINE
    heading: str  # what there is to say of it, as "score 1.5"
    kind: str = ""  # a word for the colour and the label of what happened to it, as "kept"
    label: str = ""  # of the slider when it stands here
    x: float = 0.0  # where the mark in the picture stands then


@dataclass(frozen=True)
class Table:
    """Cells are texts; columns after the first are numbers where `numeric` says so."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    numeric: bool = True


@dataclass(frozen=True)
class Section:
    """A part of the page; what it does not have is left out.

    legend: style class -> its word. slider: what it goes over, as "quantile"; the entries lie along it.
    """

    title: str
    words: str = ""
    pictures: Sequence[Markup] = ()
    legend: Mapping[str, str] = field(default_factory=dict)
    table: Table | None = None
    entries: Sequence[Entry] = ()
    slider: str = ""


def write_page(path: Path, title: str, words: str, facts: Table, sections: Iterable[Section]) -> None:
    """Write a page, with as much of each text as keeps it under LARGEST bytes. Raises: UserError as `atomic_file`."""
    sections = [section for section in sections if section.pictures or section.table or section.entries]
    for excerpt in EXCERPTS:
        page = render(title, words, facts, sections, excerpt)
        if len(page.encode("utf-8", "backslashreplace")) <= LARGEST:
            break
    write_text(path, page)


def render(title: str, words: str, facts: Table, sections: Sequence[Section], excerpt: int) -> str:
    """The page as HTML. excerpt: characters of each text that are shown."""
    style, script = (Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            words=words,
            facts=facts,
            sections=sections,
            excerpt=excerpt,
            style=style,
            script=script,
            digests={"style": _digest(style), "script": _digest(script)},
        )
    )


@functools.cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # a stage that writes no page does without

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=marked,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "first_line": first_line, "cut": cut}
    return environment


def marked(value: Any) -> Markup:
    """Escaped, and what is hidden in it spelled out inside <mark>; line ends and tabs stay."""
    if isinstance(value, Markup):
        return value
    return Markup(IN_LINES.sub(lambda found: f"<mark>{spelled(found)}</mark>", escape(str(value))))


def first_line(text: str) -> str:
    """The beginning of a text on one line, without what is hidden in it but spaces."""
    line = " ".join(text[: 4 * FIRST].split())
    return cut(line, FIRST) + ("…" if len(line) <= FIRST and len(text) > 4 * FIRST else "")


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
