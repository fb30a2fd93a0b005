"""Conversations through a chat template: the rendered texts, and where in them the answers are."""

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from jinja2 import Environment
from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from data_common.chat.quoting import ChatTokenizer, Span, Tokens, common_start
from data_common.chat.whole import Shortened, lost
from data_common.messages.errors import UserError
from data_common.rows.json_line import BadRow

NO_PREFIX = (
    "the chat template renders its beginning differently from the whole: mark answers in the template "
    "with {% generation %}"
)
NO_ANSWER = "the generation marks of the chat template do not hold the answer (inside of a macro they have no place)"


@dataclass(frozen=True)
class Conversation:
    """Turns as a chat template takes them."""

    messages: list[dict[str, Any]]
    learned: list[bool]  # (messages,), which of them are
    tools: list[dict[str, Any]] | None = None

    def upto(self, turns: int) -> "Conversation":
        """Its beginning."""
        return replace(self, messages=self.messages[:turns], learned=self.learned[:turns])

    def with_last(self) -> "Conversation":
        """The same, but of the answers only the last one is learned."""
        answers = [place for place, turn in enumerate(self.messages) if turn["role"] == "assistant"]
        return replace(self, learned=[one and place == answers[-1] for place, one in enumerate(self.learned)])


class Rendered(NamedTuple):
    """One text to learn from."""

    conversation: Conversation
    text: str
    answers: list[Span]  # what is learned of it


def encode(conversation: Conversation, tokenizer, chat: ChatTokenizer, shortened: bool) -> list[Tokens]:
    """The tokens of every text that its answers are learned from. shortened, Raises: as of `rendered`."""
    encoded = []
    for part, text, answers in rendered(conversation, tokenizer, shortened):
        quoted: list[Span] = []
        if chat.quotes([part.messages, part.tools]):
            quoted = chat.quoted_in(text, lambda change, part=part: render(_with_content(part, change), tokenizer))
        encoded.append(chat.encode(text, answers, quoted))
    return encoded


def rendered(conversation: Conversation, tokenizer, shortened: bool) -> list[Rendered]:
    """One text, but for a template that renders earlier answers differently later on (without their thoughts, say):
    then each of these is learned from the text that ends with it.

    shortened: whether answers that the template shortens are learned, as what is left of them.
    Raises: BadRow where the template refuses it, or does not tell where the answers are; Shortened.
    """
    find = _marked if has_marks(source_of(conversation, tokenizer)) else _unmarked
    whole, answers, apart = render(conversation, tokenizer), [], []
    for place in itertools.compress(range(len(conversation.messages)), conversation.learned):
        text, spans = find(conversation, place, tokenizer)
        if not shortened:
            _check_whole(conversation, place, text, spans, tokenizer)
        if whole.startswith(text):
            answers += spans
        else:
            apart.append(Rendered(conversation.upto(place + 1), text, spans))
    return [*apart, Rendered(conversation, whole, answers)] if answers or not apart else apart


def _unmarked(conversation: Conversation, place: int, tokenizer) -> tuple[str, list[Span]]:
    """-> (the text that ends with an answer, where in it the answer is: behind its opening)."""
    opening = render(conversation.upto(place), tokenizer, opens_answer=True)
    text = render(conversation.upto(place + 1), tokenizer)
    if not text.startswith(opening):
        raise BadRow(NO_PREFIX)
    return text, [(len(opening), len(text))]


def _marked(conversation: Conversation, place: int, tokenizer) -> tuple[str, list[Span]]:
    """The same, of what the template marks; the beginning of an answer may stand before its marks."""
    text, spans = _render(conversation.upto(place + 1), tokenizer, return_assistant_tokens_mask=True)
    begin, message = _begin(conversation, place, text, tokenizer), conversation.messages[place]
    spans = [span for span in spans if span[0] >= begin]
    last = re.findall(r"\w+", message.get("content", ""))[-1:]
    if not lost(message, text[begin:]):
        within = bool(spans) and not lost(message, text[begin : spans[-1][1]])
        if not within or not all(word in _joined(text, spans) for word in last):
            raise BadRow(NO_ANSWER)
    return text, spans


def _check_whole(conversation: Conversation, place: int, text: str, spans: Sequence[Span], tokenizer) -> None:
    """Raises Shortened unless the text that ends with an answer holds all of it; its opening may hold the beginning."""
    message = conversation.messages[place]
    if lost(message, _joined(text, spans)) and (
        field := lost(message, text[_begin(conversation, place, text, tokenizer) :])
    ):
        raise Shortened(place, field)


def _begin(conversation: Conversation, place: int, text: str, tokenizer) -> int:
    """Where a turn begins in the text that ends with it."""
    return common_start(render(conversation.upto(place), tokenizer), text) if place else 0


def _joined(text: str, spans: Sequence[Span]) -> str:
    return "".join(text[slice(*span)] for span in spans)


def render(conversation: Conversation, tokenizer, opens_answer: bool = False) -> str:
    """The conversation as text; with the opening of another answer behind it."""
    return _render(conversation, tokenizer, add_generation_prompt=opens_answer)[0]


def _render(conversation: Conversation, tokenizer, **options: bool) -> tuple[str, list[Span]]:
    """-> (text, what is inside of generation marks)."""
    try:
        [text], marked = render_jinja_template(
            conversations=[conversation.messages],
            tools=conversation.tools,
            chat_template=source_of(conversation, tokenizer),
            **options,
            **tokenizer.special_tokens_map,
        )
    except (TemplateError, TypeError, ValueError, KeyError) as error:  # whatever its code runs into
        raise BadRow(f"the chat template refuses it: {error}") from None
    return text, marked[0] if marked else []


def source_of(conversation: Conversation, tokenizer) -> str:
    """The template; of several the one for tools where there are any, else the default. Raises: UserError."""
    try:
        return tokenizer.get_chat_template(tools=conversation.tools)
    except ValueError as error:
        raise UserError(f"the tokenizer's chat templates: {error}") from None


@functools.lru_cache
def has_marks(source: str) -> bool:
    """Whether a template has generation marks, however they are spelled; in a comment they are none."""
    words = [word for _, *word in Environment().lex(source) if word[0] != "whitespace"]
    return any(one[0] == "block_begin" and two == ["name", "generation"] for one, two in itertools.pairwise(words))


def _with_content(conversation: Conversation, change) -> Conversation:
    """The same with all of its content changed."""
    messages = [message | change(_content(message)) for message in conversation.messages]
    return replace(conversation, messages=messages, tools=change(conversation.tools))


def _content(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "role"}
