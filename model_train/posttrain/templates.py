"""Conversations through a chat template: the rendered texts, and where in them the answers are."""

import functools
import itertools
import re
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from jinja2 import Environment
from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from data_common.messages.errors import UserError
from data_common.rows.json_line import BadRow
from model_train.posttrain.quoting import ChatTokenizer, Span

NO_PREFIX = (
    "the chat template renders its beginning differently from the whole: mark answers in the template "
    "with {% generation %}"
)
NO_ANSWER = "the generation marks of the chat template do not hold the answer (inside of a macro they have no place)"
ONE_MARK = "which answers have weight 0 is known only where the chat template has one generation mark an answer"


@dataclass(frozen=True)
class Conversation:
    """Turns as a chat template takes them."""

    messages: list[dict[str, Any]]
    learned: list[bool]  # (messages,), which of them are
    tools: list[dict[str, Any]] | None = None

    def upto(self, turns: int) -> "Conversation":
        """Its beginning."""
        return replace(self, messages=self.messages[:turns], learned=self.learned[:turns])


class Rendered(NamedTuple):
    """One text to learn from."""

    conversation: Conversation
    text: str
    answers: list[Span]  # what is learned of it


def encode(conversation: Conversation, tokenizer, chat: ChatTokenizer) -> list[tuple[list[int], list[bool]]]:
    """-> (token ids, which of them are learned), (length,) each, of every text that its answers are learned from.

    A token that holds any character of an answer is learned, but for a special one that begins before it: a mark
    of its opening may take the blanks behind it.
    Raises: BadRow where the template refuses it, or does not tell where the answers are.
    """
    encoded = []
    for part, text, answers in rendered(conversation, tokenizer):
        quoted: list[Span] = []
        if chat.quotes([part.messages, part.tools]):
            quoted = chat.quoted_in(text, lambda change, part=part: render(_with_content(part, change), tokenizer))
        ids, places = chat.with_offsets(text, quoted)
        learned = [_in_answer(place, answers, one in chat.marks) for one, place in zip(ids, places, strict=True)]
        encoded.append((ids, learned))
    return encoded


def _in_answer(place: Span, answers: list[Span], is_mark: bool) -> bool:
    first, last = place[0], max(place[1] - 1, place[0])
    return any(first < end and (first if is_mark else last) >= begin for begin, end in answers)


def rendered(conversation: Conversation, tokenizer) -> list[Rendered]:
    """One text, but for a template that renders earlier answers differently later on (without their thoughts, say):
    then each of these is learned from the text that ends with it.
    """
    if has_marks(source_of(conversation, tokenizer)):
        return [_by_marks(conversation, tokenizer)]
    whole, answers, apart = render(conversation, tokenizer), [], []
    for place in itertools.compress(range(len(conversation.messages)), conversation.learned):
        ended = conversation.upto(place + 1)
        opening, closing = render(conversation.upto(place), tokenizer, True), render(ended, tokenizer)
        if not closing.startswith(opening):
            raise BadRow(NO_PREFIX)
        answer = (len(opening), len(closing))
        if whole.startswith(closing):
            answers.append(answer)
        else:
            apart.append(Rendered(ended, closing, [answer]))
    return [*apart, Rendered(conversation, whole, answers)] if answers or not apart else apart


def _by_marks(conversation: Conversation, tokenizer) -> Rendered:
    """The answers are what the template marks."""
    text, spans = _render(conversation, tokenizer, return_assistant_tokens_mask=True)
    turns = [place for place, message in enumerate(conversation.messages) if message["role"] == "assistant"]
    if len(spans) == len(turns):
        for place, (begin, end) in zip(turns, spans, strict=True):
            words = re.findall(r"\w+", conversation.messages[place].get("content", ""))
            if words and words[-1] not in text[begin:end]:
                raise BadRow(NO_ANSWER)
        spans = [span for place, span in zip(turns, spans, strict=True) if conversation.learned[place]]
    elif not all(conversation.learned[place] for place in turns):
        raise BadRow(ONE_MARK)
    return Rendered(conversation, text, spans)


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
