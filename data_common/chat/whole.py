"""Whether an answer stands whole in the text that a chat template renders of it."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import escape

from data_common.rows.json_line import BadRow

KEY = "on_shortened_answer"
SAID = ("content", "reasoning_content", "reasoning", "thinking")  # what a turn says in words
SPELLINGS: tuple[Callable[[str], str], ...] = (  # of text in a template
    str,
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: json.dumps(text)[1:-1],
    lambda text: str(escape(text)),
)


class Shortened(BadRow):
    """An answer would be learned without a part of it."""

    def __init__(self, place: int, field: str):
        what = f"the chat template leaves out or rewrites a part of messages[{place}].{field}, which is to be learned"
        super().__init__(f"{what} (a template that keeps it; or {KEY}=learn takes what is left)")


def lost(turn: Mapping[str, Any], text: str) -> str | None:
    """The first field of a turn that a text does not hold whole, blanks aside: as it is, or escaped (JSON, HTML)."""
    rendered = _without_blanks(text)
    for name in SAID:
        said = turn.get(name)
        if isinstance(said, str) and not any(_without_blanks(spell(said.strip())) in rendered for spell in SPELLINGS):
            return name
    return None


def _without_blanks(text: str) -> str:
    return re.sub(r"\s+", "", text)
