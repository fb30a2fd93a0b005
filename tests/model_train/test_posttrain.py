"""Instruction data: the three forms of rows, the loss on answers only, the rows that are left out."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from data_common.calls.cli import main
from data_common.chat.conversations import encode
from data_common.chat.formats import one_turn
from data_common.messages.errors import UserError
from data_common.rows.json_line import BadRow
from model_train.entry import STAGE
from tests.model_train.conftest import write_rows
from tests.models import byte_tokenizer

MARKED = (
    "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
)
UNMARKED = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
LAST_ONLY = UNMARKED.replace("{{ m.content }}", "{% if loop.last %}{{ m.content }}{% endif %}")
REFUSING = "{{ raise_exception('no such role') }}"
TURNS = [
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "is [assistant]3 right?"},
    {"role": "assistant", "content": "no, é"},
]


def tokenizer_with(template):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def learned_text(messages, template=None):
    tokenizer = tokenizer_with(template)
    ids, learned = encode(messages, tokenizer, "\n")
    assert len(ids) == len(learned)
    parts, before = [], False
    for token, now in zip(ids, learned, strict=True):
        if now:
            parts = [*parts[:-1], [*parts[-1], token]] if before else [*parts, [token]]
        before = now
    return tokenizer.decode(ids), [tokenizer.decode(part) for part in parts]


@pytest.mark.parametrize("template", [MARKED, UNMARKED])
def test_the_answers_of_a_conversation_are_learned_and_nothing_else(template):
    whole = "[user]1+1?[assistant]2</s>[user]is [assistant]3 right?[assistant]no, é</s>"
    assert learned_text(TURNS, template) == (whole, ["2</s>", "no, é</s>"])


def test_without_a_template_prompt_and_answer_follow_one_another():
    assert learned_text(one_turn("1+1?", "2")) == ("<s>1+1?\n2</s>", ["2</s>"])


@pytest.mark.parametrize(("template", "message"), [(LAST_ONLY, "mark answers"), (REFUSING, "no such role")])
def test_a_template_that_does_not_fit_makes_a_row_bad(template, message):
    with pytest.raises(BadRow, match=message):
        encode(TURNS, tokenizer_with(template), "\n")


def test_of_several_templates_the_default_is_used():
    templates = {"default": MARKED, "tool_use": REFUSING}
    assert learned_text(TURNS, templates) == learned_text(TURNS, MARKED)
    with pytest.raises(UserError, match="the tokenizer's chat templates: "):
        encode(TURNS, tokenizer_with({"rag": MARKED, "tool_use": MARKED}), "\n")


ROWS = {
    "instruct": {"instruct": "say", "text": "abc"},
    "prompt": {"prompt": "say", "response": "abc"},
    "messages": {"messages": [{"role": "user", "content": "say"}, {"role": "assistant", "content": "abc"}]},
}


def post(run, *extra):
    return main(STAGE, run.words(*extra, method="posttrain"))


@pytest.mark.parametrize("form", ROWS)
def test_the_first_loss_is_that_of_the_answer_tokens(run, form):
    write_rows(run.folder / "in.jsonl", [ROWS[form]])
    assert post(run, "epochs=2") == 0
    prompt, answer = [256, *b"say\n"], [*b"abc"]
    ids = [256, *byte_tokenizer()("say\n")["input_ids"], *byte_tokenizer()("abc")["input_ids"], 257]
    assert len(ids) == len(prompt) + len(answer) + 1
    model = AutoModelForCausalLM.from_pretrained(run.folder / "model")
    losses = torch.nn.functional.cross_entropy(
        model(torch.tensor([ids])).logits[0, :-1], torch.tensor(ids[1:]), reduction="none"
    )
    assert run.log()[0]["loss"] == pytest.approx(losses[-4:].mean().item(), rel=1e-5)
    assert run.manifest()["trained_tokens"] == 8


def test_a_row_whose_answer_is_cut_off_or_blank_is_left_out_and_counted(run, capsys):
    rows = [ROWS["instruct"], {"instruct": "x" * 50, "text": "never seen"}, {"instruct": "y", "text": "z" * 50}]
    write_rows(run.folder / "in.jsonl", [*rows, {"instruct": "say", "text": ""}, {"instruct": "say", "text": " \n"}])
    assert post(run, "epochs=1") == 0
    assert "rows 5, rows without answer 3" in capsys.readouterr().out
    assert run.manifest()["trained_tokens"] == 4 + 16 - 3  # <s> and "y\n" stand before the answer that is cut


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruct": "say"}, "in.jsonl:2: text is missing"),
        ({"instruct": "say", "text": None}, "in.jsonl:2: text is null"),
        ({"instruct": ["say"], "text": "abc"}, "in.jsonl:2: instruct is a list"),
    ],
)
def test_bad_rows_have_a_place(run, capsys, row, message):
    write_rows(run.folder / "in.jsonl", [ROWS["instruct"], row])
    assert post(run) == 2
    assert message in capsys.readouterr().err
    assert post(run, "on_bad_row=drop") == 0


def test_a_conversation_that_the_template_refuses_has_a_place(run, capsys):
    tokenizer_with(REFUSING).save_pretrained(run.folder / "model")
    write_rows(run.folder / "in.jsonl", [ROWS["messages"]])
    assert post(run) == 2
    assert "in.jsonl:1: the chat template refuses it: no such role" in capsys.readouterr().err


def test_unknown_fields_and_missing_weights(run, capsys):
    write_rows(run.folder / "in.jsonl", [{"question": "?"}])
    assert post(run) == 2
    assert "the first row has none of these fields: instruct and text; prompt" in capsys.readouterr().err
    (run.folder / "model/model.safetensors").unlink()
    write_rows(run.folder / "in.jsonl", [ROWS["prompt"]])
    assert post(run) == 2
    assert "has no weights" in capsys.readouterr().err
    bad = {"messages": [{"role": "poet", "content": "x"}]}
    (run.folder / "in.jsonl").write_text(json.dumps(bad) + "\n")
    assert post(run) == 2


def test_conversations_that_are_cut_are_counted(run):
    answers = ["abcdefgh" * count for count in range(1, 6)] * 2 + ["", "x" * 19, "x" * 20]
    rows = [{"prompt": f"q{number % 10}", "response": answer} for number, answer in enumerate(answers)]
    write_rows(run.folder / "in.jsonl", rows)
    assert post(run, "max_length=24", "epochs=1") == 0
    lengths = [1 + len("q0\n") + len(answer) + 1 for answer in answers if answer]
    assert run.manifest()["cut_documents"] == sum(length > 24 for length in lengths) == 7
    assert run.manifest()["trained_tokens"] == sum(min(length, 24) - 4 for length in lengths)


def test_what_comes_behind_the_last_answer_is_not_cut(run):
    turns = [*TURNS[:2], {"role": "user", "content": "and then nothing but a long question"}]
    write_rows(run.folder / "in.jsonl", [{"messages": turns}])
    assert post(run, "max_length=24", "epochs=1") == 0
    assert (run.manifest()["cut_documents"], run.manifest()["trained_tokens"]) == (0, 2)


def test_content_that_spells_marks_is_counted_and_told(run, capsys):
    write_rows(run.folder / "in.jsonl", [{"prompt": "<s>old</s>", "response": "a"}])
    for special in ("text", "tokens"):
        assert post(run, "epochs=1", f"special_tokens_in_text={special}", "resume=never") == 0
        assert f"1 of 1 rows spell special tokens, read as {special}" in capsys.readouterr().out
        assert run.manifest()["rows_that_spell_special_tokens"] == 1
