"""A data card as Markdown: sources and licences, scores and their directions, selection, order, counts, every step."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_common.calls.stage import STAGES, about, method_names
from data_common.card.chain import Link, chain
from data_common.files.atomic import write_text
from data_common.messages.errors import UserError
from data_common.messages.redaction import redact
from data_common.messages.visible import visible
from data_common.replay.record import DOWNLOADS

HEAD = "# Data card: "
MARKS = re.compile(r"([\\`*_\[\]<>#|~&!$])")  # that mean something in Markdown
MOST = 100  # sources that are listed one by one
ALL = ""  # in `licences`: of every source that is not named


def write_card(out: str, target: str | None, licences: Mapping[str, str]) -> Path:
    """Write the card of an output. -> its path: `target`, or OUT.card.md.

    licences: name of a source -> its licence, as the user gives it.
    Raises: UserError as `chain`, for a licence of what is no source, or where a file that is no card is in the way.
    """
    links = chain(out)
    names = {name for link in links if link.is_source for name in _names(link)}
    if unknown := sorted(licences.keys() - names - {ALL}):
        raise UserError(f"--licence {unknown[0]}=...: the sources are {', '.join(sorted(names))}")
    place = Path(target or f"{out.removesuffix('.manifest.json').rstrip('/')}.card.md")
    if place.exists() and not (place.is_file() and place.read_bytes().startswith(HEAD.encode())):
        raise UserError(f"{place} exists and is no data card: choose another --save-dir")
    write_text(place, card(links, licences))
    return place


def card(links: Sequence[Link], licences: Mapping[str, str]) -> str:
    """The Markdown of `chain`; the same for the same manifests."""
    steps = [link for link in links if link.record is not None]
    sources = [link for link in links if link.is_source]
    lines = [f"{HEAD}{_plain(Path(links[-1].name).name)}", ""]
    lines += ["Made by `utils.py --card` from the manifests of the files; nothing was measured again.", ""]
    lines += _table(("", ""), _summary(links))
    rows = [_source(link, licences) for link in sources[:MOST]]
    lines += ["## Sources", "", *_table(("source", "read as", "from", "bytes", "xxh3", "licence"), rows)]
    if rest := sources[MOST:]:
        lines += [f"And {len(rest):,} more, {sum(link.content.get('bytes', 0) for link in rest):,} bytes.", ""]
    lines += ["## Steps", ""]
    for number, link in enumerate(steps, 1):
        lines += [f"### {number}. {_title(link.record)}: {_plain(link.name)}", ""]
        lines += [f"- {name}: {text}" for name, text in _step(link.record) if text] + [""]
    return "\n".join(lines)


def _summary(links: Sequence[Link]) -> Iterator[tuple[str, str]]:
    """What matters of the output and of the calls that made its rows."""
    made = links[-1]
    yield "bytes", f"{made.content['bytes']:,}"
    yield "xxh3", _plain(made.content["xxh3"])
    for record in (link.record for link in links if link.record and link.has_rows):
        config, stage = record["config"], record["stage"]
        if stage == "data_scoring":
            field = config.get("score_field")
            better = record.get("directions", {}).get(field, "neither")
            yield "scored by", _plain(f"{record['method']} (field {field}; {better} is better)")
        chosen = record["method"] if stage == "data_selection" else config.get("select")
        if chosen:
            yield "selected by", f"{_plain(chosen)}, {_rows(record)}"
        if stage == "data_ordering":
            yield "ordered by", f"{_plain(record['method'])}, {_rows(record)}"
        if stage == "model_train" and record["method"] == "tokenize":
            tokens, documents = record["tokens"], record["documents"]
            yield "tokens", f"{tokens:,} in {documents:,} documents ({_plain(config['format'])})"


def _rows(record: Mapping[str, Any]) -> str:
    return " to ".join(f"{record[name]:,}" for name in ("rows_in", "rows_out") if name in record) + " rows"


def _names(link: Link) -> list[str]:
    """Of a source: its path or id, and the id that it was downloaded by."""
    known = (link.record or {}).get("config", {}).get("id")
    return [link.name, *([known] if known else [])]


def _source(link: Link, licences: Mapping[str, str]) -> tuple[str, ...]:
    """A row of the table."""
    record = link.record or {}
    revision = f", revision {record['revision']}" if record.get("revision") else ""
    origin = f"{record['method']} {record['config'].get('id', '')}{revision}" if record else link.note
    declared = f"{record['licence']} (as the hub says)" if record.get("licence") else "not given"
    given = next((licences[name] for name in (*_names(link), ALL) if name in licences), None)
    size = f"{link.content['bytes']:,}" if "bytes" in link.content else ""
    words = (link.name, link.role, origin, size, link.content.get("xxh3", ""), given or declared)
    return tuple(_plain(word) for word in words)


def _title(record: Mapping[str, Any]) -> str:
    stage = "Made by utils.py" if record["stage"] == DOWNLOADS else STAGES[record["stage"]]
    return f"{stage}, {_plain(record['method'])}"


def _step(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and text of each line about a call."""
    if record["method"] in (method_names(record["stage"]) if record["stage"] in STAGES else ()):
        facts = about(record["stage"], record["method"])
        yield "what", _plain(facts.summary)
        yield "source", " ".join(f"<{address}>" for address in facts.sources)
    inputs = record["inputs"].items()
    listed = ((name, one if isinstance(one, list) else [one]) for name, one in inputs)
    places = [f"{name} {one.get('path') or one['id']}" for name, some in listed for one in some]
    yield "reads", _plain(", ".join(places[:MOST])) + (f" and {len(places) - MOST:,} more" if places[MOST:] else "")
    yield "keys", _plain(", ".join(f"{key}={_value(one)}" for key, one in record["config"].items() if one is not None))
    yield "counts", _plain(", ".join(_counts(record)))
    yield "better", _plain(", ".join(f"{field}: {way}" for field, way in record.get("directions", {}).items()))
    yield "scores", _plain(_quantiles(record.get("score")))
    yield "made", _plain(record.get("finished", ""))
    yield "git commit", _plain(record.get("git_commit") or "")
    yield "versions", _plain(", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _counts(record: Mapping[str, Any]) -> Iterator[str]:
    """Whole numbers of the manifest, and why rows were dropped."""
    for name, value in record.items():
        if isinstance(value, int) and not isinstance(value, bool) and name not in ("seed", "processes"):
            yield f"{name.replace('_', ' ')} {value:,}"
    if dropped := record.get("dropped_rows"):
        yield "dropped " + ", ".join(f"{count:,} ({reason})" for reason, count in dropped.items())


def _quantiles(found: Any) -> str:
    ends = {"0": "minimum", "0.5": "median", "1": "maximum"}
    found = found if isinstance(found, dict) else {}
    return ", ".join(
        f"{name} {found[key]:.4g}" for key, name in ends.items() if isinstance(found.get(key), int | float)
    )


def _table(names: Sequence[str], rows: Any) -> list[str]:
    """A Markdown table of cells that are Markdown, and an empty line."""
    cells = [names, ["---"] * len(names), *rows]
    return [f"| {' | '.join(row)} |" for row in cells] + [""]


def _plain(text: Any) -> str:
    """Any text as Markdown that shows it: on one line, without marks, what is hidden spelled out."""
    return MARKS.sub(r"\\\1", visible(redact(str(text))))
