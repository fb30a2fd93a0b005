"""Prompts as conversations, in the chat template of the tokenizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jinja2.exceptions import TemplateError

from data_common.messages.errors import UserError

Messages = Sequence[dict[str, str]]  # of `role` and `content`


@dataclass(frozen=True)
class Chat:
    """What lm-eval is told of conversations."""

    apply_chat_template: bool | str
    system_instruction: str | None
    fewshot_as_multiturn: bool


def template_of(tokenizer, wanted: bool | str, path: str) -> str | None:
    """The chat template; None where none is wanted. wanted: true = the default one, or the name of one.

    Raises: UserError where the tokenizer of `path` does not have it.
    """
    if wanted is False:
        return None
    there = tokenizer.chat_template
    if not there:
        raise UserError(f"the tokenizer of {path} has no chat template: apply_chat_template=false")
    if isinstance(there, str):
        if wanted is not True:
            raise UserError(f"the chat template of {path} is the only one, and has no name: apply_chat_template=true")
        return there
    name = "default" if wanted is True else wanted
    if name not in there:
        raise UserError(f"{path} has no chat template {name}: apply_chat_template={'|'.join(there)}")
    return there[name]


def rendered(messages: Messages, render: Callable[[Messages], str]) -> tuple[str, bool]:
    """The prompt, and whether what the system says had to be put in front of what the user says first.

    That is so where the template refuses a system role, or leaves out what it says: lm-eval then drops it.
    Raises: UserError where the template refuses the conversation.
    """
    system = next((message["content"] for message in messages if message["role"] == "system"), "")
    try:
        text = render(messages)
        if system.strip() in text:
            return text, False
    except TemplateError as error:
        if not system:
            raise UserError(f"the chat template refuses a prompt: {error}") from None
    others = [message for message in messages if message["role"] != "system"]
    first = next(number for number, message in enumerate(others) if message["role"] == "user")
    others[first] = others[first] | {"content": f"{system.strip()}\n\n{others[first]['content']}"}
    try:
        return render(others), True
    except TemplateError as error:
        raise UserError(f"the chat template refuses a prompt: {error}") from None
