"""Formats of instruction rows: by which fields each is known, and what they say as turns {"role", "content"}.

A format is one entry of FORMATS. The sources of their shapes: Alpaca (https://github.com/tatsu-lab/stanford_alpaca),
Dolly (https://huggingface.co/datasets/databricks/databricks-dolly-15k), prompt and completion
(https://huggingface.co/docs/trl/dataset_formats), ShareGPT (https://github.com/lm-sys/FastChat), messages
(https://platform.openai.com/docs/api-reference/chat).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from data_common.messages.visible import brief
from data_common.rows.json_line import BadRow

Turn = dict[str, Any]
Name = Literal["auto", "instruct", "prompt", "messages", "alpaca", "dolly", "prompt-completion", "sharegpt"]
BLANK_LINE = "\n\n"  # between an instruction and what it is about
SPEAKERS = {  # of ShareGPT -> role; function_call is read by itself
    "system": "system",
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
}


@dataclass(frozen=True)
class Format:
    """Rows of one kind."""

    needs: Mapping[str, Any]  # field -> its type; a row that has all of them is of this format
    turns: Callable[[Mapping[str, Any]], list[Turn]]  # values of its fields -> turns. Raises: BadRow
    takes: tuple[str, ...] = ()  # further texts, read where the row has them


def one_turn(prompt: str, answer: str) -> list[Turn]:
    """A question and its answer."""
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def _asked(prompt: str, answer: str, about: str = "") -> Callable[[Mapping[str, Any]], list[Turn]]:
    """Of fields with these names; `about` goes behind the prompt, after a blank line."""

    def turns(values: Mapping[str, Any]) -> list[Turn]:
        parts = [values[prompt], values.get(about, "")]
        return one_turn(BLANK_LINE.join(part for part in parts if part), values[answer])

    return turns


def _completed(values: Mapping[str, Any]) -> list[Turn]:
    """Texts, or lists of turns; answers in the prompt are not learned."""
    prompt, completion = values["prompt"], values["completion"]
    if isinstance(prompt, str) != isinstance(completion, str):
        raise BadRow("prompt and completion are not of one kind: two texts, or two lists of turns")
    if isinstance(prompt, str):
        return one_turn(prompt, completion)
    before = [
        turn | {"weight": turn.get("weight") or 0} if turn.get("role") == "assistant" else turn for turn in prompt
    ]
    return [*before, *completion]


def _shared(values: Mapping[str, Any]) -> list[Turn]:
    """Turns of `from` and `value`, or of role and content."""
    return [_spoken(turn, f"conversations[{place}].") for place, turn in enumerate(values["conversations"])]


def _spoken(turn: Turn, place: str) -> Turn:
    if "from" not in turn and "role" in turn:
        return turn
    for name in ("from", "value"):
        if turn.get(name) is None:
            raise BadRow(f"{place}{name} is {'null' if name in turn else 'missing'}")
    speaker, rest = turn["from"], {name: value for name, value in turn.items() if name not in ("from", "value")}
    if speaker == "function_call":
        return {"role": "assistant", "tool_calls": _calls(turn["value"], place), **rest}
    if speaker not in SPEAKERS:
        raise BadRow(f"{place}from is {brief(str(speaker), 40)}: {', '.join(SPEAKERS)} and function_call are known")
    return {"role": SPEAKERS[speaker], "content": turn["value"], **rest}


def _calls(text: Any, place: str) -> list[dict[str, Any]]:
    """Calls as messages have them, of JSON: {"name", "arguments"}, or a list of such."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        found = None
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(call, dict) and "name" in call for call in calls):
        raise BadRow(f"{place}value is a function_call, but no JSON of a name and arguments")
    return [{"type": "function", "function": call} for call in calls]


FORMATS = {  # in this order the first three are looked for, as they always were; of the others one must fit alone
    "instruct": Format({"instruct": str, "text": str}, _asked("instruct", "text")),
    "prompt": Format({"prompt": str, "response": str}, _asked("prompt", "response")),
    "messages": Format({"messages": list[Turn]}, lambda values: values["messages"]),
    "alpaca": Format({"instruction": str, "output": str}, _asked("instruction", "output", "input"), ("input",)),
    "dolly": Format({"instruction": str, "response": str}, _asked("instruction", "response", "context"), ("context",)),
    "prompt-completion": Format({"prompt": str | list[Turn], "completion": str | list[Turn]}, _completed),
    "sharegpt": Format({"conversations": list[Turn]}, _shared),
}
OLDER = ("instruct", "prompt", "messages")
