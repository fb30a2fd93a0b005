"""The keys by which instruction rows are read as texts, the same for scoring, vectors and token counts."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from data_common.chat.formats import Name
from data_common.chat.reading import AUTO, check_fields, reader_of
from data_common.messages.errors import UserError
from data_common.messages.notes import note
from data_common.models.special_tokens import KEY, Special, as_meant
from data_common.parallel import distributed
from data_common.rows.jsonl import Source

if TYPE_CHECKING:
    from data_common.chat.texts import TextReader


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """What the text of an instruction row is.

    Args:
        text_format: rows are conversations, read as text: plain = what each turn says, joined by newlines; template =
            as chat_template renders them; null = the text is text_field
        chat_template: folder or hub id of the tokenizer whose chat template renders them (text_format=template)
        row_format: as format of posttrain: of the rows (alpaca, messages, sharegpt, ...); auto = by the first row
        row_fields: as fields of posttrain: the rows' own names, as {prompt: question, response: answer}
        ignored_fields: fields of a row or turn, or roles, that are left out where they cannot be read as text
    """

    text_format: Literal["plain", "template"] | None = None
    chat_template: str | None = None
    row_format: Name = AUTO
    row_fields: dict[str, str] | None = None
    ignored_fields: str | list[str] | None = None

    def __post_init__(self):
        """Raises: UserError for keys that do not go together."""
        if (self.text_format == "template") != (self.chat_template is not None):
            raise UserError("text_format=template and chat_template=TOKENIZER go together: set both or none")
        check_fields(self.row_format, self.row_fields or {}, "row_")
        others = {"row_format": self.row_format != AUTO, "row_fields": self.row_fields, "ignored_fields": self.ignored}
        if self.text_format is None and (name := next((name for name, given in others.items() if given), None)):
            raise UserError(f"{name} is of text_format=plain and template, which read rows as conversations")

    @property
    def ignored(self) -> list[str]:
        """Names of fields and roles."""
        return [self.ignored_fields] if isinstance(self.ignored_fields, str) else self.ignored_fields or []

    def inputs(self) -> dict[str, str]:
        """Path or hub id that texts depend on."""
        return {} if self.chat_template is None else {"chat_template": self.chat_template}

    def special(self, special: Special, shards: Iterable[str]) -> Special:
        """How text that spells special tokens is read: as tokens where the marks of a template are such, which is told.

        shards: as of `as_meant`, which else decides.
        """
        if self.text_format != "template":
            return as_meant(special, shards)
        if distributed.is_main():
            note(f"{KEY}: tokens (the marks of a chat template are)")
        return "tokens"

    def reader(self, source: Source) -> "TextReader | None":
        """What makes a text of each row of a source; None where that is the text field.

        Raises: UserError where the first row is of no known format, or the tokenizer has no chat template.
        """
        if self.text_format is None:
            return None
        from data_common.chat.texts import TextReader  # imports transformers

        rows = reader_of(source, self.row_format, self.row_fields, "row_")
        return TextReader(rows, self.ignored, self.chat_template)

    def spelled(self) -> str:
        """The keys as a text, of which `spelled_as` makes them again."""
        return json.dumps(asdict(self), sort_keys=True)


def spelled_as(text: str) -> TextFormat:
    """The keys of `TextFormat.spelled`."""
    return TextFormat(**json.loads(text))
