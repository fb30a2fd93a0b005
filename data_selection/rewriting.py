"""A method that rewrites texts, applied to a file: a row is dropped, or its text replaced and all else kept as it is.

The method is called twice for a row, once to know which rows are kept and once when they are written, so that no text
is held in memory: it must give the same result for the same row.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from data_common.calls.config import columns_of
from data_common.calls.progress import Progress
from data_common.messages.errors import UserError
from data_common.rows.columns import Column, Table
from data_common.rows.json_line import Decoder, FieldExists, Text, add_fields, document_text, replace_field
from data_common.rows.jsonl import Source, raw_lines

REWRITE = "rewrite"  # what a method.py defines in place of `select`


class Rewriter:
    """A method that rewrites, with its keys. A parameter NAME of it beside `text` is the field named by NAME_field.

    Args:
        text_field: field of the text that is rewritten
        original_field: field that keeps the text as it was, in rows that were changed; null = none
    """

    score_field = None  # no scores are read

    def __init__(
        self,
        method: Callable,
        method_keys: Mapping[str, Any],
        *,
        text_field: str = "text",
        original_field: str | None = None,
    ):
        """Raises: UserError where one field is asked for twice, or the text lies inside of another field."""
        self.method, self.method_keys = method, method_keys
        self.text_field, self.original_field = text_field, original_field
        others = [method_keys[f"{name}_field"] for name in columns_of(method)[1:]]
        self.fields = [text_field, *others]  # of the positional parameters; None = it has no value
        named = [name for name in [*self.fields, original_field] if name is not None]
        if twice := [name for name in named if named.count(name) > 1]:
            raise UserError(f"{twice[0]} is asked for twice: the text, programs and the old text need a field each")
        if "." in text_field:
            raise UserError(
                f"text_field={text_field}: only a field of the row itself is rewritten, not one inside of it"
            )
        types: dict[str, Any] = {name: Text for name in self.fields if name is not None}
        absent = {} if original_field is None else {original_field: msgspec.UnsetType}
        self.decoder = Decoder(types | absent)

    def columns(self) -> list[Column]:
        """What is to be read of each row: that its texts are there is checked by the scan."""
        return [Column("characters", (name,)) for name in self.fields if name is not None]

    def files(self) -> dict[str, str]:
        """The result depends on the rows alone."""
        return {}

    def directions(self, declared: Mapping[str, str]) -> dict[str, str]:
        """Score field -> direction, as IN's manifest has them: scores stay in the rows."""
        return dict(declared)

    def check(self) -> None:
        """Raises UserError where the method refuses its keys: it is asked to rewrite an empty text."""
        self.method("", *["" if name else None for name in self.fields[1:]], **self.method_keys)

    check_keys = check

    def pick(self, source: Source, table: Table, directions: Mapping[str, str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Numbers of the rows that are kept, and what happened to all of them. Raises: UserError FILE:LINE."""
        kept, outcomes, characters = np.zeros(len(table), bool), Counter(), Counter(before=0, after=0)
        with Progress(desc="rewriting", total=len(table), unit="row", unit_scale=True) as bar:
            for row, line in enumerate(raw_lines(source, table.rows)):
                try:
                    old, new, outcome = self._rewritten(line)
                except FieldExists:
                    place = source.place(int(table.rows.start[row]))
                    raise UserError(
                        f"{place}: {self.original_field} is there already: choose another original_field"
                    ) from None
                kept[row] = new is not None
                outcomes[outcome] += 1
                characters.update(before=len(old), after=len(new or ""))
                bar.update()
        facts = {"rows": dict(outcomes.most_common()), "characters": dict(characters)}
        return np.flatnonzero(kept), {"rewriting": facts}

    def line(self, line: bytes) -> bytes:
        """The line of a kept row with its new text; the same bytes where the text is the same."""
        old, new, _ = self._rewritten(line)
        if new == old:
            return line
        line = replace_field(line, self.text_field, new)
        return add_fields(line, {self.original_field: old}) if self.original_field else line

    def _rewritten(self, line: bytes) -> tuple[str, str | None, str]:
        """The text before, the text after, and what happened to it in words. Raises: FieldExists."""
        values = self.decoder(line, valid_utf8=True)
        texts = iter(values if isinstance(values, tuple) else (values,))
        given = [None if name is None else document_text(next(texts)) for name in self.fields]
        return given[0], *self.method(*given, **self.method_keys)
