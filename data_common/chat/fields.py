"""What a row and its turns say beside role and content: used, or refused by name, never dropped without a word."""

import copy
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from data_common.chat.templates import Conversation, render
from data_common.messages.visible import brief
from data_common.rows.json_line import ROLES, BadRow

KEY = "ignored_fields"
KNOWN_ROLES = ("system", "user", "assistant", "tool")
LINKS = {"tool_call_id", "name"}  # of a tool's turn: which call it answers, of which many templates say nothing
# Fields of a row that other trainers take into the text or the loss.
UNREAD = ("input", "context", "history", "documents", "functions", "function_call", "chat_template_kwargs", "loss_mask")
UNREAD += ("image", "images", "video", "videos", "audio", "audios")
TEXT_PARTS = ("text", "input_text", "output_text")  # of a content that is a list
UNRENDERED = "is not rendered by the chat template"


def conversation(
    messages: Sequence[Mapping[str, Any]], row: Mapping[str, Any] | None = None, ignored: Collection[str] = ()
) -> Conversation:
    """A row's turns, with what other fields mean for them: system, tools, weight.

    row: all of its fields. ignored: names of fields, of a row or turn, that are left out, or roles whose turns are.
    Raises: BadRow for what is no turn, and for a field whose meaning is not known here.
    """
    row = _kept(row or {}, ignored)
    for name in UNREAD:
        if name in row:
            raise BadRow(f"{name} is not read here{_cure(name)}")
    turns = [_turn(turn, f"messages[{place}].", ignored) for place, turn in enumerate(messages)]
    turns = [turn for turn in turns if turn["role"] not in ignored or turn["role"] == "assistant"]
    learned = [_is_learned(turn, f"messages[{place}].") for place, turn in enumerate(turns)]
    if not _is_learned({"role": "assistant"} | {"weight": row.get("weight", 1)}, ""):
        learned = [False] * len(turns)
    turns = [{name: value for name, value in turn.items() if name != "weight"} for turn in turns]
    if "system" in row:
        turns, learned = [_system(row["system"], turns), *turns], [False, *learned]
    return Conversation(turns, learned, _tools(row["tools"]) if "tools" in row else None)


def check_used(chat: Conversation, tokenizer) -> None:
    """Raises BadRow for what does not come into the text: without it the chat template renders the same."""
    extras = [(place, name) for place, turn in enumerate(chat.messages) for name in turn if _is_extra(turn, name)]
    if not tokenizer.chat_template:
        if odd := [name for _, name in extras] + ["tools"] * (chat.tools is not None):
            raise BadRow(f"{odd[0]} needs a chat template that renders it{_cure(odd[0])}")
        if any(turn["role"] == "tool" for turn in chat.messages):
            raise BadRow("a turn of the role tool needs a tokenizer with a chat template")
        return
    whole = render(chat, tokenizer)
    if chat.tools is not None and whole == _text(replace(chat, tools=None), tokenizer):
        raise BadRow(f"tools {UNRENDERED}{_cure('tools')}")
    for place, turn in enumerate(chat.messages):
        if turn["role"] != "assistant" and not _content_is_used(chat, place, tokenizer):
            what = f"the content of messages[{place}] (role {turn['role']})"
            raise BadRow(f"{what} {UNRENDERED}{_cure(turn['role'])}")
    for place, name in extras:
        for shorter, part in _without(chat.messages[place], name):
            if not _is_used(chat, place, shorter, tokenizer):
                raise BadRow(f"{part} of the role {shorter['role']} {UNRENDERED}{_cure(name)}")


def _without(turn: Mapping[str, Any], name: str) -> Iterator[tuple[dict[str, Any], str]]:
    """-> (a turn without a field, or without one of its items where it has several, and what that is)."""
    value = turn[name]
    if isinstance(value, list) and len(value) > 1:
        for place in range(len(value)):
            yield {**turn, name: [*value[:place], *value[place + 1 :]]}, f"{name}[{place}]"
    else:
        yield {other: value for other, value in turn.items() if other != name}, name


def _is_used(chat: Conversation, place: int, shorter: Mapping[str, Any], tokenizer) -> bool:
    """Whether the text would be another with a shorter turn: in the end, or where that turn is the last one."""
    without = replace(chat, messages=[*chat.messages[:place], dict(shorter), *chat.messages[place + 1 :]])
    ends = (len(chat.messages), place + 1)
    return any(_text(chat.upto(end), tokenizer) not in (None, _text(without.upto(end), tokenizer)) for end in ends)


def _content_is_used(chat: Conversation, place: int, tokenizer) -> bool:
    """Whether the text holds what a turn says, or depends on it, in the end or where that turn is the last one."""
    content = chat.messages[place].get("content", "").strip()
    silent = chat.messages[place] | {"content": ""}
    without = replace(chat, messages=[*chat.messages[:place], silent, *chat.messages[place + 1 :]])
    for end in (len(chat.messages), place + 1):
        text = _text(chat.upto(end), tokenizer)
        if text is not None and (content in text or text != _text(without.upto(end), tokenizer)):
            return True
    return False


def _text(chat: Conversation, tokenizer) -> str | None:
    """None where the template refuses it, as it may parts of a conversation, or one that lacks something."""
    try:
        return render(chat, tokenizer)
    except BadRow:
        return None


def with_arguments(chat: Conversation, tokenizer) -> Conversation:
    """Arguments of tool calls in the form that the template takes: JSON in a string, as OpenAI writes them, or objects.

    Strings become objects where the text does not hold them as they are, but encoded once more, or the template
    refuses them; objects become strings where it refuses these.
    Raises: BadRow for a string that is no JSON object.
    """
    strings = [one["arguments"] for one in _functions(chat.messages) if isinstance(one["arguments"], str)]
    if not tokenizer.chat_template or next(_functions(chat.messages), None) is None:
        return chat
    whole, written = _text(chat, tokenizer), replace(chat, messages=_changed(chat.messages, _as_string))
    if not strings:
        return written if whole is None and _text(written, tokenizer) is not None else chat
    if whole and all(one in whole and json.dumps(one, ensure_ascii=False) not in whole for one in strings):
        return chat
    return replace(chat, messages=_changed(chat.messages, _as_object))


def _functions(turns: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those that are called with arguments."""
    for turn in turns:
        calls = turn.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict) and isinstance(called := call.get("function"), dict) and "arguments" in called:
                yield called


def _changed(turns: Sequence[Mapping[str, Any]], change: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """The same with other arguments."""
    turns = copy.deepcopy(list(turns))
    for called in _functions(turns):
        called["arguments"] = change(called["arguments"])
    return turns


def _as_string(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _as_object(arguments: Any) -> dict[str, Any]:
    try:
        found = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadRow("tool_calls: arguments are neither an object nor JSON of one")
    return found


def _kept(fields: Mapping[str, Any], ignored: Collection[str]) -> dict[str, Any]:
    """Those that say something: in a table every row has all fields, some of them empty."""
    named = {name: value for name, value in fields.items() if name not in ignored}
    return {name: value for name, value in named.items() if value not in (None, "", [], {}) or name == "content"}


def _turn(turn: Mapping[str, Any], place: str, ignored: Collection[str]) -> dict[str, Any]:
    """Raises: BadRow unless role and content are what they must be; a turn that calls tools may have no content."""
    kept = _kept(turn, ignored)
    if kept.get("content", "") is None and "tool_calls" in kept:
        del kept["content"]
    if isinstance(kept.get("content"), list):
        kept["content"] = _text_of(kept["content"], f"{place}content")
    for name in ("role",) if "tool_calls" in kept else ("role", "content"):
        if turn.get(name) is None:
            raise BadRow(f"{place}{name} is {'null' if name in turn else 'missing'}")
    for name in ("role", "content"):
        if not isinstance(kept.get(name, ""), str):
            raise BadRow(f"{place}{name} is not text")
    if kept.get("role") not in KNOWN_ROLES:
        raise BadRow(f"{place}role is {brief(turn['role'], 40)}", ROLES)
    return kept


def _text_of(parts: Sequence[Any], place: str) -> str:
    """Parts of a content, joined by line ends as vLLM does it. Raises: BadRow for one that is no text."""
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    for number, (part, text) in enumerate(zip(parts, texts, strict=True)):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind is not None and kind not in TEXT_PARTS:
            raise BadRow(f"{place} holds a part of the type {brief(str(kind), 40)}: only text is read")
        if not isinstance(text, str):
            raise BadRow(f"{place} is not text: part {number} has none")
    return "\n".join(texts)


def _is_extra(turn: Mapping[str, Any], name: str) -> bool:
    return name not in ("role", "content") and not (turn["role"] == "tool" and name in LINKS)


def _is_learned(turn: Mapping[str, Any], place: str) -> bool:
    """By its role and weight. Raises: BadRow for a weight that is not known here."""
    answer = turn["role"] == "assistant"
    weight = turn.get("weight", answer)
    if weight not in ((0, 1) if answer else (0,)):
        known = "0 (not learned) and 1 are known" if answer else "only answers are learned"
        raise BadRow(f"{place}weight is {brief(str(weight), 40)}: {known}{_cure('weight')}")
    return bool(weight)


def _system(text: Any, turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not isinstance(text, str):
        raise BadRow(f"system is not text{_cure('system')}")
    if turns and turns[0]["role"] == "system":
        raise BadRow(f"system is a field of the row, and the first turn too{_cure('system')}")
    return {"role": "system", "content": text}


def _tools(tools: Any) -> list[dict[str, Any]] | None:
    """Raises: BadRow unless they are a list of objects, or JSON that spells one."""
    try:
        tools = json.loads(tools) if isinstance(tools, str) else tools
    except ValueError:
        tools = None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRow(f"tools is not a list of objects{_cure('tools')}")
    return tools or None


def _cure(name: str) -> str:
    return f" ({KEY}=[{name}] leaves it out)"
