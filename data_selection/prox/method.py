"""Refine texts by small programs that drop a document, remove lines or replace strings: ProX (arXiv 2409.17115).

The programs stand in fields of the rows, as a model wrote them, or are written by rules.
"""

from typing import Annotated, Literal

from msgspec import Meta

from data_common.messages.errors import UserError
from data_common.rows.scripts import word_count
from data_selection.prox import rules
from data_selection.prox.programs import Program, execute, parse

ABOUT = {
    "family": "rewriting",
    "needs": "programs in fields of the rows, or nothing",
    "cost": "reading the text twice",
    "formula": "paper",
}

Share = Annotated[float, Meta(ge=0, le=1)]


def rewrite(
    text: str,
    doc_program: str | None,
    chunk_program: str | None,
    *,
    programs: Literal["rules", "fields"] = "rules",
    doc_program_field: str | None = None,
    chunk_program_field: str | None = None,
    drop_share: Share = 0.5,
    min_share: Share = 0.05,
    min_words: Annotated[int, Meta(ge=0)] = 10,
    max_errors: Annotated[int, Meta(ge=0)] = 1,
) -> tuple[str | None, str]:
    """The refined text, or None for a document that is dropped; and what happened to it, in words.

    A text that no call of its programs changes is kept as it is. Of a changed one at least `min_share` of the words and
    more than `min_words` must be left, as in the authors' code. In scripts without blanks each character is a word.

    Args:
        programs: fields = programs of the rows; rules = programs written by rules, for web pages
        doc_program_field: field of the program for the document (keep_doc, drop_doc); null = none
        chunk_program_field: field of the program for its lines (remove_lines, normalize, keep_chunk), or of a list of
            such for its chunks, all with the line numbers of the document; null = none
        drop_share: programs=rules drops a document with more of its characters in lines that are no prose
        min_share: share of the words that must be left
        min_words: a document of which no more words are left is dropped
        max_errors: malformed calls of a program; with more, the text stays as it is

    Raises: UserError where programs and the fields of programs do not go together.
    """
    _check(programs, doc_program_field, chunk_program_field)
    if programs == "rules":
        doc_program, chunk_program = rules.doc_program(text, drop_share), rules.chunk_program(text)
    if doc_program is not None and parse(doc_program, 0).drop:
        return None, "dropped by its program"
    program = Program() if chunk_program is None else parse(chunk_program, text.count("\n") + 1)
    refined = execute(text, program)
    if refined == text:
        return text, "kept as it is" if program.errors <= max_errors else "kept as it is: malformed program"
    left = word_count(refined)
    if program.errors <= max_errors and left <= min_share * word_count(text):
        return None, "dropped: too small a share is left"
    if left <= min_words:
        return None, "dropped: too few words are left"
    return (refined, "refined") if program.errors <= max_errors else (text, "kept as it is: malformed program")


def _check(programs: str, *fields: str | None) -> None:
    if programs == "rules" and any(fields):
        raise UserError("doc_program_field and chunk_program_field name programs of the rows: add programs=fields")
    if programs == "fields" and not any(fields):
        raise UserError("programs=fields needs doc_program_field or chunk_program_field")
