"""Programs written by rules, in place of a model: navigation, bare addresses and footers of web pages, by the line.

Rules of this project, not of the paper, whose programs come from a language model that was trained for it.
"""

import regex

ADDRESS = regex.compile(r"\s*(?:https?://|www\.)\S+\s*")
SEPARATORS = regex.compile(r"\s[|»›·•>]\s")  # noqa: RUF001 (marks between links)
SENTENCE_END = regex.compile(r"[.!?…。！？][\"'”’)\]]*\s*$")  # noqa: RUF001 (marks of other scripts)
FOOTER = regex.compile(
    r"©|\(c\)\s*\d{4}|\b(?:copyright|all rights reserved|privacy policy|terms (?:of (?:use|service)|and conditions)|"
    r"cookie policy|powered by|back to top|skip to (?:main )?content|share (?:this|on)|sign up|log ?in)\b",
    regex.IGNORECASE,
)
SHORT = 120  # characters: a longer line is prose even where it names a footer's words
LINKS = 2  # separators between the links of a navigation bar


def chunk_program(text: str) -> str:
    """`remove_lines` for each run of lines that are no prose, else `keep_chunk()`."""
    calls, first = [], None
    lines = text.split("\n")
    for number, line in enumerate([*lines, "prose."]):
        if junk(line):
            first = number if first is None else first
        elif first is not None:
            calls.append(f"remove_lines({first}, {number - 1})")
            first = None
    return "\n".join(calls) or "keep_chunk()"


def doc_program(text: str, drop_share: float) -> str:
    """`drop_doc()` where more than `drop_share` of the characters lie in lines that are no prose, else `keep_doc()`."""
    lines = text.split("\n")
    characters = sum(map(len, lines))
    return "drop_doc()" if sum(len(line) for line in lines if junk(line)) > drop_share * characters else "keep_doc()"


def junk(line: str) -> bool:
    """Whether the line is an address alone, a bar of links, or part of a footer."""
    if len(line) > SHORT or not line.strip():
        return False
    if ADDRESS.fullmatch(line):
        return True
    if len(SEPARATORS.findall(line)) >= LINKS and not SENTENCE_END.search(line):
        return True
    return bool(FOOTER.search(line)) and len(line.split()) <= 12
