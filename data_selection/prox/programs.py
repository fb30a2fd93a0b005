"""The program language of ProX: calls of a few named functions with literals, read by `ast` and never evaluated.

drop_doc()   keep_doc()                                 the document
remove_lines(start, end)   normalize(source, target)    its lines, from 0, both ends included; every occurrence
keep_chunk()
"""

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

SIGNATURES = {  # name -> its parameters and their type
    "drop_doc": ((), str),
    "keep_doc": ((), str),
    "keep_chunk": ((), str),
    "remove_lines": (("start", "end"), int),
    "normalize": (("source", "target"), str),
}
CALL = re.compile(rf"({'|'.join(SIGNATURES)})\s*\(")
LONGEST_CALL = 10_000  # characters; a longer line is malformed
LISTED = re.compile(r"^\s*(?:[-*]|\d+\.)\s+")  # a model's bullet before a call


@dataclass
class Program:
    """What a program asks for. errors: lines that are no call, and calls that name what is not there."""

    drop: bool = False
    replaced: list[tuple[str, str]] = field(default_factory=list)  # (source, target), one after another
    removed: list[tuple[int, int]] = field(default_factory=list)  # (first line, last line) within the document
    errors: int = 0


def parse(text: str, line_count: int) -> Program:
    """The program that `text` spells, one call on a line, for a document of so many lines."""
    program = Program()
    for call in _calls(text):
        if call is None:
            program.errors += 1
            continue
        name, values = call
        if name == "drop_doc":
            program.drop = True
        elif name == "normalize":
            _normalize(program, *values)
        elif name == "remove_lines":
            _remove(program, *values, line_count)
    return program


def execute(text: str, program: Program) -> str:
    """The document after its replacements, then without the removed lines. A program with no effect returns `text`."""
    for source, target in program.replaced:
        text = text.replace(source, target)
    if not program.removed:
        return text
    lines = text.split("\n")
    kept = [True] * len(lines)
    for first, last in program.removed:
        kept[first : last + 1] = [False] * (last + 1 - first)
    return "\n".join(line for line, keep in zip(lines, kept, strict=True) if keep)


def _normalize(program: Program, source: str, target: str) -> None:
    """A replacement that adds or takes line ends would move the lines that other calls name: it is an error."""
    if not source or "\n" in source + target:
        program.errors += 1
    else:
        program.replaced.append((source, target))


def _remove(program: Program, first: int, last: int, line_count: int) -> None:
    """An interval beyond the end is an error, and is cut; one that is empty or before the start is left out."""
    if first < 0 or last < first:
        program.errors += 1
        return
    program.errors += last >= line_count
    if first < line_count:
        program.removed.append((first, min(last, line_count - 1)))


def _calls(text: str) -> Iterator[tuple[str, list] | None]:
    """(name, values of its parameters) of each line that is not blank; None for a line that is no such call."""
    with warnings.catch_warnings():
        # Python warns of escapes that it does not know, such as "\(": the backslash then stands for itself, as meant.
        warnings.simplefilter("ignore", (SyntaxWarning, DeprecationWarning))
        for line in text.split("\n"):
            if line.strip():
                yield _call(LISTED.sub("", line).strip())


def _call(line: str) -> tuple[str, list] | None:
    if len(line) > LONGEST_CALL or not CALL.match(line):
        return None
    try:
        call = ast.parse(line, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # NUL bytes and deep nesting are among them
        return None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None
    names, kind = SIGNATURES[call.func.id]
    given = dict(zip(names, call.args, strict=False)) | {one.arg: one.value for one in call.keywords}
    if len(call.args) + len(call.keywords) != len(names) or given.keys() != set(names):
        return None
    values = [given[name].value if isinstance(given[name], ast.Constant) else None for name in names]
    return (call.func.id, values) if all(_literal(value, kind) for value in values) else None


def _literal(value: object, kind: type) -> bool:
    """Whether it is a plain number or a text that can be written."""
    if type(value) is not kind:
        return False
    return kind is int or not any("\ud800" <= character <= "\udfff" for character in value)
