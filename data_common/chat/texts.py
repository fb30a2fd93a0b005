"""Instruction rows as texts: what the turns say, or as a chat template renders them; and where the answers are."""

from functools import cached_property
from types import SimpleNamespace
from typing import Any

from data_common.chat import fields, templates
from data_common.chat.quoting import Span
from data_common.chat.reading import RowReader
from data_common.chat.templates import Conversation
from data_common.messages.errors import UserError
from data_common.models import loading
from data_common.rows.whole_row import WholeRow

NO_TEMPLATE = SimpleNamespace(chat_template=None)  # a tokenizer, as far as plain text asks for one


class RowText(str):
    """The text of a row, which knows more of the row."""

    answers: list[Span]  # where the answers that are learned stand in it
    said: str  # what the turns say, without the marks of a template

    def __new__(cls, text: str, answers: list[Span], said: str) -> "RowText":
        """text, answers, said: as above."""
        made = super().__new__(cls, text)
        made.answers, made.said = answers, said
        return made


class TextReader(WholeRow):
    """Row -> `RowText`."""

    def __init__(self, rows: RowReader, ignored: list[str], chat_template: str | None):
        """ignored: fields and roles that are left out. chat_template: tokenizer that has it; None: plain text.

        Raises: UserError for a tokenizer that cannot be had, or has none.
        """
        self.rows, self.ignored, self.path = rows, ignored, chat_template
        if chat_template is not None and not self.tokenizer.chat_template:
            raise UserError(f"chat_template={chat_template}: that tokenizer has none (text_format=plain needs none)")

    @cached_property
    def tokenizer(self) -> Any:
        """That whose template renders rows."""
        return NO_TEMPLATE if self.path is None else loading.load_tokenizer(self.path)

    def read(self, row: dict[str, Any]) -> RowText:
        """Raises: BadRow for what is no conversation, or is not read as text."""
        read = self.rows.read(row)
        chat = fields.conversation(read.turns, read.rest(row), self.ignored)
        chat = fields.with_arguments(chat, self.tokenizer)
        fields.check_used(chat, self.tokenizer)
        return plain(chat) if self.path is None else self._rendered(chat)

    def _rendered(self, chat: Conversation) -> RowText:
        """The whole conversation, without the BOS that whoever reads a text puts before it."""
        text, spans = templates.rendered(chat, self.tokenizer, shortened=True)[-1][1:]
        start = self.tokenizer.bos_token
        cut = len(start) if start and text.startswith(start) else 0
        answers = [(max(0, begin - cut), end - cut) for begin, end in spans]
        return RowText(text[cut:], answers, plain(chat).said)


def plain(chat: Conversation) -> RowText:
    """What each turn says, joined by line ends."""
    parts, answers, position = [], [], 0
    for turn, learned in zip(chat.messages, chat.learned, strict=True):
        part = turn.get("content", "")
        if learned:
            answers.append((position, position + len(part)))
        parts.append(part)
        position += len(part) + 1
    text = "\n".join(parts)
    return RowText(text, answers, text)
