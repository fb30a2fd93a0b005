"""Instruction rows to tokens: which of them are the answer that is learned.

Three forms of rows: `instruct` and `text` (DELT), `prompt` and `response`, `messages` (a list of {"role", "content"}).
Where the tokenizer has a chat template, the first two become a conversation of one turn; else prompt and answer follow
one another with a separator between them, BOS before and EOS behind.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from common.errors import UserError
from common.json_line import BadRow
from common.special_tokens import read_as
from common.tokens import special_tokens

GENERATION = "{% generation"  # marks answers in a chat template, with or without a dash


class Message(TypedDict):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str


FORMS: dict[str, dict[str, Any]] = {  # name -> what is read of a row
    "instruct": {"instruct": str, "text": str},
    "prompt": {"prompt": str, "response": str},
    "messages": {"messages": list[Message]},
}


def as_messages(values: Any) -> list[Message]:
    """A row's values, messages or prompt and answer, as a conversation."""
    if isinstance(values, list):
        return values
    prompt, answer = values
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def has_answer(messages: Sequence[Message]) -> bool:
    """Whether any answer has text: else there is nothing to learn but to say nothing."""
    return any(message["role"] == "assistant" and message["content"].strip() for message in messages)


def encode(messages: Sequence[Message], tokenizer, separator: str) -> tuple[list[int], list[bool]]:
    """-> (token ids, which of them are answers), (length,) each.

    separator: behind a prompt where there is no chat template.
    Raises: BadRow where the template refuses a conversation, or renders its beginning differently from the whole.
    """
    if not tokenizer.chat_template:
        return _plain(messages, tokenizer, separator)
    from jinja2.exceptions import TemplateError

    try:
        return _templated(messages, tokenizer)
    except TemplateError as error:
        raise BadRow(f"the chat template refuses it: {error}") from None


def _templated(messages: Sequence[Message], tokenizer) -> tuple[list[int], list[bool]]:
    read_as(tokenizer, "tokens")  # the template's marks are special tokens
    try:
        template = tokenizer.get_chat_template()  # of several, the one named default
    except ValueError as error:
        raise UserError(f"the tokenizer's chat templates: {error}") from None
    if GENERATION in template.replace("{%-", "{%"):
        rendered = tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return rendered["input_ids"], [bool(one) for one in rendered["assistant_masks"]]
    return _between_prefixes(messages, tokenizer)


def _plain(messages: Sequence[Message], tokenizer, separator: str) -> tuple[list[int], list[bool]]:
    """Turns one after the other; EOS ends an answer and is learned with it."""
    start, end = special_tokens(tokenizer)
    ids, learned = list(start), [False] * len(start)
    for message in messages:
        answer = message["role"] == "assistant"
        text = message["content"] + ("" if answer else separator)
        part = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] + (end if answer else [])
        ids += part
        learned += [answer] * len(part)
    return ids, learned


def _between_prefixes(messages: Sequence[Message], tokenizer) -> tuple[list[int], list[bool]]:
    """An answer is what the rendered text has more than up to the question and the opening of an answer."""
    render = tokenizer.apply_chat_template
    text = render(messages, tokenize=False)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    learned = [False] * len(encoded["input_ids"])
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        opening = render(messages[:number], tokenize=False, add_generation_prompt=True)
        closing = render(messages[: number + 1], tokenize=False)
        if not (text.startswith(closing) and closing.startswith(opening)):
            raise BadRow(
                "the chat template renders its beginning differently from the whole: mark answers in the template "
                "with {% generation %}"
            )
        for token, (first, stop) in enumerate(encoded["offset_mapping"]):
            learned[token] |= len(opening) <= first < len(closing) and stop > first
    return encoded["input_ids"], learned


def learnable(ids: Sequence[int], learned: Sequence[bool], max_length: int) -> tuple[list[int], list[bool]] | None:
    """Cut to `max_length` tokens; None where that leaves no token of an answer to predict."""
    ids, learned = list(ids[:max_length]), [False, *learned[1:max_length]]
    return (ids, learned) if any(learned) else None


def form_of(row: Mapping[str, Any]) -> str | None:
    """The form of a row that has all fields of one; None where it has not."""
    return next((form for form, fields in FORMS.items() if fields.keys() <= row.keys()), None)
