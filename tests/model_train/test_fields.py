"""Fields of rows and turns beside role and content: used, or refused by name."""

import itertools
import json

import pytest

from data_common.calls.cli import main
from data_common.chat.conversations import encode_all, has_answer
from data_common.chat.fields import UNREAD, conversation
from data_common.chat.formats import one_turn
from data_common.rows.json_line import BadRow
from model_train.entry import STAGE
from tests.model_train.conftest import write_rows
from tests.models import byte_tokenizer

RICH = (
    "{% for tool in tools or [] %}[{{ tool.name }}]{% endfor %}{% for m in messages %}<{{ m.role }}>"
    "{{ m.reasoning_content or '' }}{% if m.tool_calls %}CALL{{ m.tool_calls }}{% endif %}{{ m.content }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
BARE = (
    "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MARKED = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>"
    "{% endgeneration %}{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
QUESTION = {"role": "user", "content": "q"}
CALL = [{"type": "function", "function": {"name": "f", "arguments": {"x": "</s>"}}}]


def answer(content: str = "a", **fields):
    return {"role": "assistant", "content": content} | fields


def learned_texts(template, messages, row=None, ignored=()):
    """The text of a conversation, and what is learned of it."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template, tokenizer.split_special_tokens = template, True
    [(ids, learned)] = encode_all(conversation(messages, row, ignored), tokenizer, "\n")
    return tokenizer.decode(ids), tokenizer.decode(list(itertools.compress(ids, learned)))


def test_what_the_template_renders_is_used():
    text, learned = learned_texts(RICH, [QUESTION, answer(reasoning_content="because ")], {"tools": [{"name": "f"}]})
    assert (text, learned) == ("[f]<user>q</s><assistant>because a</s>", "because a</s>")
    turns = [QUESTION, {"role": "assistant", "content": None, "tool_calls": CALL}]
    turns += [{"role": "tool", "content": "1", "tool_call_id": "x", "name": "f"}, answer()]
    text, learned = learned_texts(RICH, turns, {"tools": json.dumps([{"name": "f"}]), "system": "Be terse."})
    assert text == f"[f]<system>Be terse.</s><user>q</s><assistant>CALL{CALL}</s><tool>1</s><assistant>a</s>"
    assert learned == f"CALL{CALL}</s>a</s>"
    assert learned_texts(None, one_turn("q", "a"), {"system": "Be terse."})[0] == "<s>Be terse.\nq\na</s>"


@pytest.mark.parametrize(
    ("turns", "row", "message"),
    [
        ([QUESTION, answer(tool_calls=CALL)], {}, "tool_calls of the role assistant is not rendered"),
        (
            [QUESTION, answer(reasoning_content="because")],
            {},
            "reasoning_content of the role assistant is not rendered",
        ),
        ([QUESTION | {"name": "Ann"}, answer()], {}, "name of the role user is not rendered"),
        ([QUESTION, answer()], {"tools": [{"name": "f"}]}, "tools is not rendered"),
        ([QUESTION, answer()], {"tools": "none"}, "tools is not a list of objects"),
        ([QUESTION, answer()], {"system": "Be terse."}, r"messages\[0\] \(role system\) is not rendered"),
        ([QUESTION, answer()], {"system": ["Be terse."]}, "system is not text"),
        (
            [{"role": "system", "content": "s"}, QUESTION, answer()],
            {"system": "t"},
            "system is a field of the row, and",
        ),
        ([QUESTION, answer(weight=0.5)], {}, r"messages\[1\]\.weight is 0\.5: 0 \(not learned\) and 1 are known"),
        ([QUESTION | {"weight": 1}, answer()], {}, r"messages\[0\]\.weight is 1: only answers are learned"),
        ([QUESTION, answer()], {"weight": 0.3}, r"weight is 0\.3: 0 \(not learned\)"),
        *(([QUESTION, answer()], {name: "x"}, f"{name} is not read here") for name in UNREAD),
    ],
)
def test_what_is_not_used_is_refused_by_name_and_may_be_ignored(turns, row, message):
    with pytest.raises(BadRow, match=message) as refusal:
        learned_texts(BARE, turns, row)
    name = str(refusal.value).split("ignored_fields=[")[1].split("]")[0]
    assert name in message
    assert learned_texts(BARE, turns, row, [name])[1] == "a</s>"


@pytest.mark.parametrize(
    ("turns", "row", "message"),
    [
        ([QUESTION, answer(tool_calls=CALL)], {}, "tool_calls needs a chat template"),
        ([QUESTION, answer()], {"tools": [{"name": "f"}]}, "tools needs a chat template"),
        ([QUESTION, answer(), {"role": "tool", "content": "1"}, answer()], {}, "the role tool needs"),
    ],
)
def test_without_a_template_nothing_else_is_used(turns, row, message):
    with pytest.raises(BadRow, match=message):
        learned_texts(None, turns, row)


def test_empty_fields_and_links_of_calls_say_nothing():
    turns = [QUESTION | {"name": None, "tool_calls": []}, answer(reasoning_content="", weight=None)]
    turns += [{"role": "tool", "content": "1", "tool_call_id": "x", "name": "f"}]
    assert learned_texts(BARE, turns, {"tools": [], "system": "", "input": "", "id": 7})[1] == "a</s>"


@pytest.mark.parametrize("template", [RICH, MARKED, None])
def test_an_answer_of_weight_0_is_read_and_not_learned(template):
    turns = [QUESTION, answer("wrong", weight=0), QUESTION, answer("right", weight=1)]
    text, learned = learned_texts(template, turns)
    assert "wrong" in text and learned == "right</s>"
    assert not has_answer(conversation(turns[:2]))
    assert not has_answer(conversation(one_turn("q", "a"), {"weight": 0}))


def test_weights_where_an_answer_has_several_marks():
    twice = MARKED.replace("</s>{% endg", "{% endgeneration %}{% generation %}</s>{% endg")
    turns = [QUESTION, answer("wrong", weight=0), QUESTION, answer("right")]
    assert learned_texts(twice, [QUESTION, answer("right")])[1] == "right</s>"
    text, learned = learned_texts(twice, turns)
    assert "wrong" in text and learned == "right</s>"


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"role": "poet", "content": "x"}, r"messages\[0\]\.role is poet"),
        ({"content": "x"}, r"messages\[0\]\.role is missing"),
        ({"role": 1, "content": "x"}, r"messages\[0\]\.role is not text"),
        ({"role": "user"}, r"messages\[0\]\.content is missing"),
        ({"role": "user", "content": None}, r"messages\[0\]\.content is null"),
        ({"role": "user", "content": [{"type": "text"}]}, r"messages\[0\]\.content is not text"),
    ],
)
def test_what_is_no_turn(turn, message):
    with pytest.raises(BadRow, match=message):
        conversation([turn])


def test_a_call_refuses_them_with_their_place(run, capsys):
    rows = [{"prompt": "q", "response": "a"}, {"prompt": "q", "response": "a", "context": "c", "x": float("nan")}]
    write_rows(run.folder / "in.jsonl", rows)
    assert main(STAGE, run.words(method="posttrain")) == 2
    assert "in.jsonl:2: context is not read here (ignored_fields=[context] leaves it out)" in capsys.readouterr().err
    assert main(STAGE, run.words("ignored_fields=context", method="posttrain")) == 0
    assert run.manifest()["rows"] == 2
    write_rows(run.folder / "in.jsonl", [{"messages": [{"role": "human", "content": "q"}]}])
    assert main(STAGE, run.words("resume=never", method="posttrain")) == 2
    assert "in.jsonl:1: messages[0].role is human (roles are system, user and assistant" in capsys.readouterr().err


JSON_CALLS = (
    "{% for m in messages %}<{{ m.role }}>{% for c in m.tool_calls or [] %}CALL{{ c.function.name }} "
    "{{ c.function.arguments | tojson }}{% endfor %}{{ m.content or '' }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PLAIN_CALLS = JSON_CALLS.replace(" | tojson", "")


def call(arguments):
    return [{"type": "function", "function": {"name": "f", "arguments": arguments}}]


def test_arguments_that_are_json_in_a_string_are_not_encoded_once_more():
    """As OpenAI writes them; a template may want an object (tojson), or the string as it is."""
    for template, arguments in ((JSON_CALLS, '{"x": 1}'), (JSON_CALLS, {"x": 1}), (PLAIN_CALLS, '{"x": 1}')):
        turns = [QUESTION, {"role": "assistant", "content": None, "tool_calls": call(arguments)}]
        assert learned_texts(template, turns)[1] == 'CALLf {"x": 1}</s>'
        assert turns[1]["tool_calls"] == call(arguments)  # the row is not changed
    for arguments in ('["x"]', 'no "JSON"'):
        turns = [QUESTION, {"role": "assistant", "content": None, "tool_calls": call(arguments)}]
        with pytest.raises(BadRow, match="neither an object nor JSON of one"):
            learned_texts(JSON_CALLS, turns)


@pytest.mark.parametrize("role", ["system", "tool"])
def test_turns_that_the_template_leaves_out_are_refused(role):
    """BARE has no system turns, and a template without tools no tool turns: what they say would be lost."""
    template = BARE.replace("!= 'system'", "not in ['system', 'tool']")
    turns = [QUESTION, answer(), {"role": role, "content": "be brief"}, QUESTION, answer()]
    with pytest.raises(BadRow, match=rf"messages\[2\] \(role {role}\) is not rendered by the chat template"):
        learned_texts(template, turns)
    turns[2]["content"] = " "
    assert learned_texts(template, turns)[1] == "a</s>a</s>"
    turns[2]["content"] = "be brief"
    assert learned_texts(template, turns, ignored=[role])[1] == "a</s>a</s>"


def test_each_of_several_calls_is_rendered_or_refused():
    """A template may write the first one only."""
    calls = [call({"x": 1})[0], {"type": "function", "function": {"name": "g", "arguments": {"x": 2}}}]
    turns = [QUESTION, {"role": "assistant", "tool_calls": calls}]
    assert learned_texts(JSON_CALLS, turns)[1] == 'CALLf {"x": 1}CALLg {"x": 2}</s>'
    with pytest.raises(BadRow, match=r"tool_calls\[1\] of the role assistant is not rendered"):
        learned_texts(JSON_CALLS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"), turns)


@pytest.mark.parametrize("arguments", ['{"x": "</s>"}', {"x": "</s>"}])
@pytest.mark.parametrize(
    "written",
    ["'{\"x\": \"' + c.function.arguments['x'] + '\"}'", "c.function.arguments + ''", "c.function.arguments | tojson"],
)
def test_arguments_come_in_the_form_that_the_template_takes(written, arguments):
    """Some templates join strings, some look into objects: each refuses the other."""
    template = JSON_CALLS.replace("c.function.arguments | tojson", written)
    turns = [QUESTION, {"role": "assistant", "tool_calls": call(arguments)}]
    assert learned_texts(template, turns)[1] == 'CALLf {"x": "</s>"}</s>'


def test_a_template_that_refuses_a_conversation_without_a_field_uses_it():
    """As one that wants a call before each answer of a tool; and the refusal of the whole is told as it is."""
    wants_call = "{% for m in messages %}{% if m.role == 'tool' and not messages[loop.index0 - 1].tool_calls %}"
    template = wants_call + "{{ raise_exception('no call') }}{% endif %}{% endfor %}" + JSON_CALLS
    called = {"role": "assistant", "tool_calls": call({"x": 1})}
    turns = [QUESTION, called, {"role": "tool", "content": "1"}, answer()]
    assert learned_texts(template, turns)[1] == 'CALLf {"x": 1}</s>a</s>'
    with pytest.raises(BadRow, match="the chat template refuses it: no call"):
        learned_texts(template, [QUESTION, {"role": "tool", "content": "1"}, answer()])
