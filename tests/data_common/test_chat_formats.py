"""Rows in the shapes of public instruction data sets, as turns and as tokens; transformers renders the oracle."""

import json
from typing import get_args

import pytest

from data_common.chat.conversations import encode_all
from data_common.chat.fields import conversation
from data_common.chat.formats import FORMATS, Name
from data_common.chat.reading import RowReader, formats_of, reader_of
from data_common.messages.errors import UserError
from data_common.rows.json_line import BadRow
from data_common.rows.jsonl import open_source, read_rows
from tests.models import byte_tokenizer

MARKED = (
    "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' %}{% generation %}"
    "{% for c in m.tool_calls or [] %}CALL{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}"
    "{{ m.content or '' }}</s>{% endgeneration %}{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
ALPACA = {
    "instruction": "Rewrite the sentence.",
    "input": "He go home.",
    "output": "He goes home.",
    "text": "Below is an instruction that describes a task, ... ### Response:\nHe goes home.",
}
DOLLY = {
    "instruction": "When did it start?",
    "context": "It started in 2000.",
    "response": "In 2000.",
    "category": "closed_qa",
}
SHAREGPT = {
    "id": "QWJhYvA_0",
    "conversations": [
        {"from": "human", "value": "Hello"},
        {"from": "gpt", "value": "Hi!"},
        {"from": "human", "value": "1+1?"},
        {"from": "gpt", "value": "2"},
    ],
}
WEATHER = {"name": "weather", "arguments": {"city": "Paris"}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
OPENAI = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Is it warm"}, {"type": "text", "text": "in Paris?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {**WEATHER, "arguments": '{"city": "Paris"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "20"},
        {"role": "assistant", "content": "Yes."},
    ],
    "tools": TOOLS,
    "parallel_tool_calls": False,
}


def turn(role, content, **others):
    return {"role": role, "content": content, **others}


def qa(question, answer):
    return [turn("user", question), turn("assistant", answer)]


SHAPES = {  # -> (row, its format, turns as transformers takes them)
    "alpaca": (ALPACA, "alpaca", qa("Rewrite the sentence.\n\nHe go home.", "He goes home.")),
    "alpaca without input": (ALPACA | {"input": ""}, "alpaca", qa("Rewrite the sentence.", "He goes home.")),
    "dolly": (DOLLY, "dolly", qa("When did it start?\n\nIt started in 2000.", "In 2000.")),
    "dolly without context": (DOLLY | {"context": ""}, "dolly", qa("When did it start?", "In 2000.")),
    "completion": ({"prompt": "The sky is", "completion": " blue."}, "prompt-completion", qa("The sky is", " blue.")),
    "completion of turns": (
        {"prompt": [turn("user", "What colour?")], "completion": [turn("assistant", "Blue.")]},
        "prompt-completion",
        qa("What colour?", "Blue."),
    ),
    "sharegpt": (SHAREGPT, "sharegpt", qa("Hello", "Hi!") + qa("1+1?", "2")),
    "sharegpt with system": (
        {"conversations": [{"from": "system", "value": "Be kind."}, *SHAREGPT["conversations"]], "source": "x"},
        "sharegpt",
        [turn("system", "Be kind."), *qa("Hello", "Hi!"), *qa("1+1?", "2")],
    ),
    "conversations of role and content": ({"conversations": qa("q", "a")}, "sharegpt", qa("q", "a")),
    "sharegpt with a call": (
        {
            "conversations": [
                {"from": "human", "value": "Warm?"},
                {"from": "function_call", "value": json.dumps(WEATHER)},
                {"from": "observation", "value": "20"},
                {"from": "gpt", "value": "Yes."},
            ],
            "tools": json.dumps(TOOLS),
        },
        "sharegpt",
        [
            turn("user", "Warm?"),
            turn("assistant", "", tool_calls=[{"type": "function", "function": WEATHER}]),
            turn("tool", "20"),
            turn("assistant", "Yes."),
        ],
    ),
    "openai": (
        OPENAI,
        "messages",
        [
            turn("system", "Be brief."),
            turn("user", "Is it warm\nin Paris?"),
            turn("assistant", "", tool_calls=[{"type": "function", "function": WEATHER}]),
            turn("tool", "20"),
            turn("assistant", "Yes."),
        ],
    ),
    "ultrachat": ({"prompt": "q", "prompt_id": "1", "messages": qa("q", "a")}, "messages", qa("q", "a")),
    "prompt and response": ({"prompt": "q", "response": "a"}, "prompt", qa("q", "a")),
    "instruct and text": ({"instruct": "q", "text": "a"}, "instruct", qa("q", "a")),
}


def read(row, name=None, fields=None):
    [found] = formats_of(row, fields or {}) if name is None else [name]
    reader = RowReader(found, fields or {})
    values = reader.read(row)
    return conversation(values.turns, values.rest(row))


def tokens(chat):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template, tokenizer.split_special_tokens = MARKED, True
    return encode_all(chat, tokenizer, "\n")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_of_a_public_shape_is_known_by_its_fields_and_has_the_tokens_of_transformers(shape):
    row, name, expected = SHAPES[shape]
    assert formats_of(row, {}) == [name]
    tokenizer = byte_tokenizer()
    options = {"chat_template": MARKED, "tools": TOOLS if "tools" in row else None, "return_dict": True}
    oracle = tokenizer.apply_chat_template(expected, **options, return_assistant_tokens_mask=True)
    [(ids, learned)] = tokens(read(row))
    assert ids == oracle["input_ids"]
    assert learned == list(map(bool, oracle["assistant_masks"]))


def test_every_format_has_a_shape():
    assert {name for _, name, _ in SHAPES.values()} == FORMATS.keys() == {*get_args(Name)} - {"auto"}


def test_answers_in_a_prompt_are_not_learned():
    row = {"prompt": [*qa("q", "a"), turn("user", "r")], "completion": [turn("assistant", "b")]}
    assert read(row).learned == [False, False, False, True]
    row["prompt"][1]["weight"] = 1
    assert read(row).learned == [False, True, False, True]


def test_only_the_last_answer_is_learned_where_that_is_asked_for():
    chat = read(SHAREGPT)
    assert chat.learned == [False, True, False, True]
    assert chat.with_last().learned == [False, False, False, True]
    assert read({"messages": [turn("user", "q")]}).with_last().learned == [False]
    unlearned = {"messages": [*qa("q", "a"), turn("assistant", "b", weight=0)]}
    assert read(unlearned).with_last().learned == [False, False, False]


@pytest.mark.parametrize(
    ("row", "fields", "expected"),
    [
        ({"question": "q", "answer": "a"}, {"prompt": "question", "response": "answer"}, qa("q", "a")),
        (
            {"id": "1", "system_prompt": "s", "question": "q", "response": "a"},  # OpenOrca
            {"prompt": "question", "system": "system_prompt"},
            [turn("system", "s"), *qa("q", "a")],
        ),
        ({"x": {"q": "q", "a": "a"}}, {"prompt": "x.q", "response": "x.a"}, qa("q", "a")),
        ({"instruction": "q", "input": "c", "response": "a"}, {"context": "input"}, qa("q\n\nc", "a")),
        ({"prompt": "x", "response": "y", "chat": qa("q", "a")}, {"messages": "chat"}, qa("q", "a")),
    ],
)
def test_fields_of_other_names(row, fields, expected):
    assert read(row, fields=fields).messages == expected


@pytest.mark.parametrize(
    ("row", "name", "message"),
    [
        ({"instruction": "q", "output": 3}, "alpaca", "output is a number, "),
        ({"instruction": "q", "input": ["c"], "output": "a"}, "alpaca", "input is a list"),
        ({"instruction": "q", "input": "c", "response": "a"}, "dolly", "input is not read here"),
        ({"prompt": "q", "completion": qa("q", "a")}, "prompt-completion", "not of one kind"),
        ({"conversations": [{"from": "poet", "value": "x"}]}, "sharegpt", r"conversations\[0\]\.from is poet"),
        ({"conversations": [{"from": "human"}]}, "sharegpt", r"conversations\[0\]\.value is missing"),
        ({"conversations": [{"value": "x"}]}, "sharegpt", r"conversations\[0\]\.from is missing"),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, "sharegpt", "no JSON of a name and arguments"),
        (
            {"messages": [turn("user", [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}])]},
            "messages",
            r"messages\[0\]\.content holds a part of the type image_url: only text is read",
        ),
        ({"messages": [turn("user", [{"type": "image"}])]}, "messages", "a part of the type image"),
        ({"messages": [turn("user", [{"type": "text"}])]}, "messages", "not text: part 0 has none"),
    ],
)
def test_what_no_turns_can_be_made_of_is_refused(row, name, message):
    with pytest.raises(BadRow, match=message):
        read(row, name)


def test_parts_may_be_texts():
    assert read({"messages": [turn("user", ["a", {"type": "input_text", "text": "b"}])]}).messages == [
        turn("user", "a\nb")
    ]


def rows_of(folder, *rows, on_bad_row="error", **asked):
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open_source(str(folder / "in.jsonl")) as source:
        reader = reader_of(source, **asked)
        return reader.name, [values.turns for _, _, values in read_rows(source, {"row": reader}, on_bad_row)]


def test_the_first_row_tells_the_format_of_a_file(tmp_path):
    assert rows_of(tmp_path, ALPACA, ALPACA | {"input": None}) == (
        "alpaca",
        [qa("Rewrite the sentence.\n\nHe go home.", "He goes home."), qa("Rewrite the sentence.", "He goes home.")],
    )
    with pytest.raises(UserError) as error:
        rows_of(tmp_path, ALPACA, SHAREGPT)
    assert str(error.value) == (
        f"{tmp_path}/in.jsonl:2: the row is sharegpt (conversations), but the first one ({tmp_path}/in.jsonl:1) is "
        "alpaca (instruction and output): a file has one format"
    )
    assert len(rows_of(tmp_path, ALPACA, SHAREGPT, on_bad_row="drop")[1]) == 1
    with pytest.raises(UserError, match=r"in\.jsonl:2: output is missing"):
        rows_of(tmp_path, ALPACA, {"instruction": "q"})


def test_a_row_of_several_formats(tmp_path, capsys):
    both = {"instruction": "q", "output": "a", "response": "b"}
    with pytest.raises(UserError, match="choose with format=alpaca or format=dolly"):
        rows_of(tmp_path, both)
    assert rows_of(tmp_path, both, name="dolly")[1] == [qa("q", "b")]
    assert rows_of(tmp_path, both, fields={"output": "output"})[0] == "alpaca"
    assert rows_of(tmp_path, {"prompt": "q", "response": "a", "completion": "b"}) == ("prompt", [qa("q", "a")])
    assert "read as prompt (format=prompt-completion reads it so)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "none of these fields: instruct and text; prompt and response; messages; instruction and output; .*names"),
        ({"fields": {"promt": "x"}}, "fields: promt is a field of no format; did you mean 'prompt'"),
        ({"name": "alpaca", "fields": {"context": "x"}}, "fields: context is no field of format=alpaca"),
        ({"name": "alpaca"}, r"in\.jsonl:1: instruction is missing"),
    ],
)
def test_what_is_no_format_of_a_file(tmp_path, asked, message):
    with pytest.raises(UserError, match=message):
        rows_of(tmp_path, {"question": "q", "answer": "a"}, **asked)
