"""Text of other people for a terminal or a report: what it hides, or would do there, is written out.

Corpora, fields, files and models carry escape sequences, which move the cursor or recolour the screen, and direction
overrides, which make a text read as another. Both are shown as Python spells them: `\\x1b`, `\\u202e`.
"""

import re

# Controls, line and paragraph separators, direction marks, zero-width and tag characters, lone surrogates (bytes of
# file names that are no UTF-8). Not the joiners U+200C and U+200D, without which Persian, Hindi and emoji fall apart.
HIDDEN = (
    r"\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
IN_LINE = re.compile(f"[{HIDDEN}]")
IN_LINES = re.compile(rf"(?![\n\t])[{HIDDEN}]")
IN_PROGRESS = re.compile(rf"(?!\x1b\[A|[\n\t\r])[{HIDDEN}]")  # bars rewrite their line, and go up by one


def visible(text: object) -> str:
    """`text` on one line, with everything hidden spelled out, line ends too."""
    return IN_LINE.sub(spelled, str(text))


def in_table(text: object) -> str:
    """`visible` for a cell of a Markdown table."""
    return visible(text).replace("|", r"\|")


def brief(text: str, most: int = 200) -> str:
    """The beginning of a text that is too long for a message."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def cut(text: str, most: float) -> str:
    """A text in at most so many characters, where need be with an ellipsis at its end."""
    return text if len(text) <= most else text[: max(0, int(most) - 1)] + "…"


def spelled(found: re.Match) -> str:
    """A hidden character as Python spells it."""
    return found[0].encode("unicode_escape").decode("ascii")
