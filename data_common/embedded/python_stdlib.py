"""A small real corpus, without a download: the texts that every CPython carries.

The corpus mixes prose (docstrings) with source code, licence texts and generated tables. The language reference
of `pydoc_data.topics`, cut by whole topics, gives the target set and the held-out text with its lm-eval task.
"""

import ast
import hashlib
import json
import platform
import re
import sys
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_common.messages.errors import UserError

SEED = 0
BUDGETS = {"docstring": 1_050_000, "source": 650_000, "boilerplate": 550_000, "licence": 60_000}  # characters
LIMITS = {"docstring": 2000, "source": 1200, "boilerplate": 1200, "licence": 2000}  # longest text, characters
SHORTEST = 100  # characters of a corpus text
LONG_DOCSTRING = 200  # characters; shorter ones stay in their source code
TABLE_LINES = 20  # an assignment of a literal over so many lines is a table
NOT_SCANNED = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip", "pydoc_data"}
PASSAGE = (400, 800)  # characters of a target or held-out text
TARGET_SHARE = 0.4  # of the passages of the reference, the rest is held out
TOPIC_GROUP = 5  # topics of like size that are shuffled before they are dealt out
OVERLAP_WORDS = 13  # so many words in a row in common make two texts one (the usual decontamination length)
CONTEXT, CONTINUATION, SHORTEST_CONTINUATION = 260, 120, 60  # characters of a task item
LICENCE_WORD = re.compile(r"copyright|licen[sc]e|warrant|permission", re.IGNORECASE)
COMMENT_BLOCK = re.compile(r"(?:^#.*\n)+", re.MULTILINE)
RULER = re.compile(r"^\s*\+?[*=~^\"-]{4,}", re.MULTILINE)  # underlines a heading or frames a table
TASK = """\
task: next_passage
dataset_path: json
dataset_kwargs:
  data_files:
    test: next_passage.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: passage
doc_to_choice: continuations
doc_to_target: answer
target_delimiter: " "
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""


def build(folder: Path, seed: int = SEED) -> dict[str, Any]:
    """Fill `folder` with corpus.jsonl, target.jsonl, heldout.jsonl, task/ and, last, manifest.json.

    The bytes depend on the Python and `seed` alone. Prints a summary; returns the manifest: per file the rows,
    the characters (also per kind) and the SHA-256.

    Raises: UserError where this Python does not carry its library as source, or no language reference.
    """
    generator = np.random.default_rng(seed)
    target, heldout = reference_rows(generator)
    corpus = corpus_rows(generator, word_runs(row["text"] for row in target + heldout))
    rows_of = {
        "corpus.jsonl": corpus,
        "target.jsonl": target,
        "heldout.jsonl": heldout,
        "task/next_passage.jsonl": task_items(heldout, generator),
    }
    (folder / "task").mkdir(parents=True, exist_ok=True)
    files = {"task/next_passage.yaml": _write(folder / "task" / "next_passage.yaml", TASK)}
    for name, rows in rows_of.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        files[name] = _write(folder / name, lines) | _counts(rows)
    kinds = {kind: _counts([row for row in corpus if row["kind"] == kind]) for kind in BUDGETS}
    files["corpus.jsonl"]["kinds"] = kinds
    manifest = {"python": platform.python_version(), "seed": seed, "files": files}
    _write(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    _print_summary(files)
    return manifest


def split_text(text: str, limit: int, separators: tuple[str, ...] = ("\n\n", "\n", " ")) -> list[str]:
    """Cut `text` into pieces of at most `limit` characters, at the coarsest separators that allow it."""
    if len(text) <= limit:
        return [text]
    if not separators:
        return [text[start : start + limit] for start in range(0, len(text), limit)]
    pieces: list[str] = []
    for part in text.split(separators[0]):
        for piece in split_text(part, limit, separators[1:]):
            if pieces and len(pieces[-1]) + len(separators[0]) + len(piece) <= limit:
                pieces[-1] += separators[0] + piece
            else:
                pieces.append(piece)
    return pieces


def word_runs(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """Every run of OVERLAP_WORDS words in `texts`."""
    split = (text.split() for text in texts)
    return {tuple(words[i : i + OVERLAP_WORDS]) for words in split for i in range(len(words) - OVERLAP_WORDS + 1)}


def corpus_rows(generator: np.random.Generator, reference: set[tuple[str, ...]]) -> list[dict[str, str]]:
    """Rows {"id", "text", "source", "kind"} in random order: of every kind a random choice up to its budget.

    No two texts are equal, and none shares a run of words with `reference`.
    """
    candidates: dict[str, list[dict[str, str]]] = {kind: [] for kind in BUDGETS}
    seen: set[str] = set()
    numbers: Counter[str] = Counter()
    for source, kind, text in _library_texts():
        for piece in split_text(text, LIMITS[kind]):
            if len(piece.strip()) < SHORTEST or piece in seen:
                continue
            seen.add(piece)
            numbers[source] += 1
            row = {"id": f"{source}#{numbers[source]}", "text": piece, "source": source, "kind": kind}
            candidates[kind].append(row)
    rows: list[dict[str, str]] = []
    for kind, budget in BUDGETS.items():
        for index in generator.permutation(len(candidates[kind])):
            row = candidates[kind][index]
            if not reference.isdisjoint(word_runs([row["text"]])):
                continue
            budget -= len(row["text"])
            if budget < 0:
                break
            rows.append(row)
    return [rows[index] for index in generator.permutation(len(rows))]


def module_texts(source: str) -> Iterator[tuple[str, str]]:
    """The texts of one module as (kind, text): long docstrings, tables, licence comments, then all other code.

    Raises: SyntaxError, ValueError or RecursionError for what is not Python.
    """
    tree = ast.parse(source)
    lines: list[str | None] = source.split("\n")
    for kind, first, last, text in _marked_texts(tree, source.split("\n")):
        yield kind, text
        lines[first:last] = [None] * (last - first)  # as many, so that line numbers stay true
    rest = "\n".join(line for line in lines if line is not None)
    for block in COMMENT_BLOCK.findall(rest):
        if len(LICENCE_WORD.findall(block)) >= 2:
            yield "licence", block
            rest = rest.replace(block, "")
    yield "source", rest


def reference_rows(generator: np.random.Generator) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Target and held-out rows {"id", "text", "topic"}: passages of the language reference, cut by whole topics.

    A paragraph counts once, in the longest topic that has it; no run of words stands on both sides.
    """
    passages = _topic_passages()
    target: list[dict[str, str]] = []
    heldout: list[dict[str, str]] = []
    by_size = sorted(passages, key=lambda topic: -len(passages[topic]))
    for start in range(0, len(by_size), TOPIC_GROUP):
        group = by_size[start : start + TOPIC_GROUP]
        for topic in (group[index] for index in generator.permutation(len(group))):
            side = target if len(target) <= TARGET_SHARE * (len(target) + len(heldout)) else heldout
            side += [{"id": f"{topic}#{n}", "text": text, "topic": topic} for n, text in enumerate(passages[topic], 1)]
    held_out = word_runs(row["text"] for row in heldout)
    return [row for row in target if held_out.isdisjoint(word_runs([row["text"]]))], heldout


def task_items(heldout: list[dict[str, str]], generator: np.random.Generator) -> list[dict[str, Any]]:
    """Items {"passage", "continuations", "answer"}: one continuation is the true one, three are of other topics."""
    parts = []
    for row in heldout:
        passage, rest = _cut_at_word(" ".join(row["text"].split()), CONTEXT)
        continuation, _ = _cut_at_word(rest, CONTINUATION)
        if len(continuation) >= SHORTEST_CONTINUATION:
            parts.append((row["topic"], passage, continuation))
    answers = generator.permutation(np.arange(len(parts)) % 4)
    items = []
    for (topic, passage, continuation), answer in zip(parts, answers.tolist(), strict=True):
        others = [other for other_topic, _, other in parts if other_topic != topic]
        continuations = [others[index] for index in generator.choice(len(others), size=3, replace=False)]
        continuations.insert(answer, continuation)
        items.append({"passage": passage, "continuations": continuations, "answer": answer})
    return items


def _library_texts() -> Iterator[tuple[str, str, str]]:
    """(source, kind, text) of all that the library folder holds, in the order of the paths."""
    library = Path(sysconfig.get_path("stdlib"))
    licence = library / "LICENSE.txt"
    if licence.is_file():
        yield licence.name, "licence", licence.read_text(encoding="utf-8", errors="replace")
    modules = _modules(library)
    if not modules:
        raise UserError(f"this Python has no library source in {library}: use a standard CPython")
    for name in modules:
        try:
            with tokenize.open(library / name) as file:
                texts = list(module_texts(file.read()))
        except (OSError, SyntaxError, ValueError, RecursionError):  # templates and the like: nothing to learn from
            continue
        for kind, text in texts:
            # every module of encodings is a table within the same few lines of code
            junk = kind == "source" and name.startswith("encodings/")
            # an escape in a docstring can stand for half a surrogate pair, which UTF-8 cannot hold
            yield name, "boilerplate" if junk else kind, text.encode("utf-8", "replace").decode()


def _modules(library: Path) -> list[str]:
    """Sorted paths of the modules below `library` that belong to CPython itself and are neither tests nor tools."""
    names = []
    for top in library.iterdir():
        if top.name.removesuffix(".py") in sys.stdlib_module_names - NOT_SCANNED:
            names += [path.relative_to(library) for path in ([top] if top.suffix == ".py" else top.rglob("*.py"))]
    return sorted(name.as_posix() for name in names if NOT_SCANNED.isdisjoint(name.parts))


def _marked_texts(tree: ast.Module, lines: list[str]) -> Iterator[tuple[str, int, int, str]]:
    """(kind, first line, line after the last, text) of the long docstrings and the tables; lines count from 0."""
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring and len(docstring) > LONG_DOCSTRING:
                yield "docstring", node.body[0].lineno - 1, node.body[0].end_lineno, docstring
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            value = node.value.args[0] if isinstance(node.value, ast.Call) and node.value.args else node.value
            literal = isinstance(value, ast.Dict | ast.List | ast.Tuple | ast.Set | ast.Constant)
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno]) if literal else ""
            if text.count("\n") >= TABLE_LINES and '"""' not in text and "'''" not in text:  # those hold prose
                yield "boilerplate", node.lineno - 1, node.end_lineno, text


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and the statements below it, in the order of the source; expressions are not entered, they cost most."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from _statements(child)


def _topic_passages() -> dict[str, list[str]]:
    """Topic -> its passages. Longest topics first: others often are excerpts, and would tear holes into them."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UserError("this Python has no language reference (pydoc_data.topics): use a standard CPython") from error
    seen: set[str] = set()
    passages = {}
    for topic in sorted(topics, key=lambda topic: (-len(topics[topic]), topic)):
        kept = []
        for paragraph in re.split(r"\n\s*\n", topics[topic]):
            words = " ".join(paragraph.split())
            if len(words) >= 40 and words not in seen and not RULER.search(paragraph):
                seen.add(words)
                kept.append(paragraph.strip("\n"))
        texts = split_text("\n\n".join(kept), PASSAGE[1])
        passages[topic] = [text for text in texts if len(text) >= PASSAGE[0]]
    return passages


def _cut_at_word(text: str, limit: int) -> tuple[str, str]:
    """The beginning of `text`, of at most `limit` characters and ending with a word, and the rest."""
    if len(text) <= limit:
        return text, ""
    end = text.rfind(" ", 0, limit + 1)
    return (text[:end], text[end + 1 :]) if end > 0 else (text[:limit], text[limit:])


def _write(path: Path, text: str) -> dict[str, Any]:
    content = text.encode()
    path.write_bytes(content)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Rows and characters of text (of a task item, its passage)."""
    return {"rows": len(rows), "characters": sum(len(row.get("text") or row["passage"]) for row in rows)}


def _print_summary(files: dict[str, dict[str, Any]]) -> None:
    corpus = files["corpus.jsonl"]
    for name, file in files.items():
        if "rows" in file:
            print(f"{name}: {file['rows']} rows, {file['bytes'] / 1e6:.2f} MB")
    for kind, count in corpus["kinds"].items():
        share = count["characters"] / corpus["characters"]
        print(f"  {kind}: {count['rows']} rows, {count['characters'] / 1e6:.2f} M characters ({share:.0%})")
