"""Instruction rows to tokens: which of them are the answer that is learned.

Where the tokenizer has no chat template, prompt and answer follow one another with a separator between them, BOS before
and EOS behind.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from data_common.chat import fields, templates
from data_common.chat.quoting import ChatTokenizer, Tokens
from data_common.chat.templates import Conversation
from data_common.models.tokens import special_tokens


def has_answer(conversation: Conversation) -> bool:
    """Whether any answer that is learned says or calls something: else there is nothing to learn but to be silent."""
    return any(
        learned and any(not isinstance(value, str) or value.strip() for name, value in turn.items() if name != "role")
        for turn, learned in zip(conversation.messages, conversation.learned, strict=True)
    )


def encode(messages: Sequence[Mapping[str, Any]], tokenizer, separator: str) -> Tokens:
    """The tokens of a conversation as a whole. separator, Raises: as of `encode_all`."""
    return encode_all(fields.conversation(messages), tokenizer, separator)[-1]


def encode_all(conversation: Conversation, tokenizer, separator: str, shortened: bool = False) -> list[Tokens]:
    """The tokens of every text that the answers are learned from.

    separator: behind a prompt where there is no chat template. shortened: learn what a template leaves of an answer.
    Raises: BadRow where the template refuses a conversation, drops a field of it, or does not tell its answers;
    Shortened where it does not render all of an answer.
    """
    conversation = fields.with_arguments(conversation, tokenizer)
    fields.check_used(conversation, tokenizer)
    chat = chat_tokenizer(tokenizer)
    if tokenizer.chat_template:
        return templates.encode(conversation, tokenizer, chat, shortened)
    return [_plain(conversation, tokenizer, chat, separator)]


def chat_tokenizer(tokenizer) -> ChatTokenizer:
    """Made once for a tokenizer as it is."""
    return _made(tokenizer, tokenizer.split_special_tokens, len(tokenizer))


@functools.lru_cache(maxsize=2)
def _made(tokenizer, *_: Any) -> ChatTokenizer:
    return ChatTokenizer(tokenizer)


def _plain(conversation: Conversation, tokenizer, chat: ChatTokenizer, separator: str) -> Tokens:
    """Each answer with what is before it as one text, up to the last answer; EOS ends it and is learned with it."""
    start, end = special_tokens(tokenizer)
    ids, learned = list(start), [False] * len(start)
    prompt, quoted = "", []
    for message, is_learned in zip(conversation.messages, conversation.learned, strict=True):
        quoted += chat.spelled_in(message["content"], len(prompt))
        if message["role"] != "assistant":
            prompt += message["content"] + separator
            continue
        part, answer = chat.encode_pair(prompt, message["content"], quoted)
        ids += part + end
        learned += [is_learned and one for one in answer] + [is_learned] * len(end)
        prompt, quoted = "", []
    return ids, learned


def learnable(ids: Sequence[int], loss_mask: Sequence[bool], max_length: int) -> Tokens | None:
    """Up to the last token that is learned; None where `max_length` leaves none of them to be predicted."""
    if not any(loss_mask[1:max_length]):
        return None
    stop = len(loss_mask) - list(reversed(loss_mask)).index(True)
    return list(ids[:stop]), [False, *loss_mask[1:stop]]
