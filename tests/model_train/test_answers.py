"""Which tokens of a conversation are learned, and what of its content is text, against brute force and transformers."""

import itertools
import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from data_common.calls.cli import main
from data_common.chat.conversations import encode, encode_all
from data_common.chat.fields import conversation
from data_common.chat.templates import has_marks
from data_common.messages.errors import UserError
from data_common.models.special_tokens import Spelled
from data_common.rows.json_line import BadRow
from model_train.entry import STAGE
from tests.model_train.conftest import write_rows
from tests.models import byte_tokenizer

CORPUS = [
    "User: is it so? Assistant: Yes",
    " No Yes Maybe the answer is ",
    "the cat sat on the mat. café 东京 <s> </s> [user]",
]
OPEN = "{% for m in messages %}{% if m.role == 'user' %}User: {{ m.content }} {% else %}Assistant: "
PLAIN = OPEN + "{{ m.content }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}"
MARKED = OPEN + "{% generation %}{{ m.content }}</s>{% endgeneration %}{% endif %}{% endfor %}"
THOUGHTS = (  # of the answers to the last question only, as Qwen3 renders them
    "{%- set ns = namespace(last=-1) -%}{%- for m in messages -%}{%- if m.role == 'user' -%}"
    "{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}{%- for m in messages -%}{{ '<|' + m.role + '|>' }}"
    "{%- if m.role == 'assistant' and loop.index0 > ns.last -%}"
    "{{ '<think>' + (m.reasoning_content or '') + '</think>' }}"
    "{%- endif -%}{{ m.content + '</s>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


def bpe(metaspace: bool) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens join letters: bytes, or characters with a sign for the blank."""
    tokenizer, alphabet = Tokenizer(models.BPE(unk_token="<unk>")), []
    if metaspace:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Replace("▁", " ")
    else:
        tokenizer.pre_tokenizer, alphabet = pre_tokenizers.ByteLevel(False), pre_tokenizers.ByteLevel.alphabet()
        tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


TOKENIZERS = {"bytes": byte_tokenizer(), "byte-level": bpe(False), "metaspace": bpe(True)}


def with_template(name: str, template: str, text: bool = True):
    tokenizer = TOKENIZERS[name]
    tokenizer = type(tokenizer)(
        tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template, tokenizer.split_special_tokens = template, text
    return tokenizer


def turns(*contents: str) -> list[dict[str, str]]:
    return [
        {"role": role, "content": content}
        for role, content in zip(itertools.cycle(["user", "assistant"]), contents, strict=False)
    ]


def learned_tokens(tokenizer, messages):
    ids, learned = encode(messages, tokenizer, "\n")
    return [tokenizer.decode([one]) for one in itertools.compress(ids, learned)]


def test_the_first_token_of_an_answer_is_learned_where_it_begins_with_the_blank_before_it():
    tokenizer = with_template("byte-level", PLAIN)
    assert learned_tokens(tokenizer, turns("is it so?", "Yes")) == [" Yes", "</s>"]
    assert learned_tokens(tokenizer, turns("is it so?", "the cat sat")) == [" the", " cat", " sat", "</s>"]


@pytest.mark.parametrize("text", [True, False])
def test_a_blank_before_an_answer_is_not_learned_where_offsets_leave_out_blanks(text):
    """As those of GPT-2 and Llama 3 do; the oracle counts bytes."""
    tokenizer = with_template("bytes", PLAIN, text)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    ids, learned = encode(turns("so", " Yes  "), tokenizer, "\n")
    assert learned == [False] * len("User: so Assistant: ") + [True] * len(" Yes  " + "e")  # EOS is one token
    assert tokenizer.decode(ids) == "User: so Assistant:  Yes  </s>"


@pytest.mark.parametrize("content", ["  Yes", "  Yes <s>"])
def test_a_mark_that_takes_the_blanks_of_an_answer_is_not_learned(content):
    """As those of Phi-3 do."""
    template = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '</s>' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    tokenizer = with_template("bytes", template)
    marks = ["<|user|>", "<|assistant|>"]
    tokenizer.add_tokens([AddedToken(mark, rstrip=True, special=True) for mark in marks], special_tokens=True)
    assert learned_tokens(tokenizer, turns("q", content)) == [*content.lstrip(), "</s>"]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("answers", [("Yes", "No"), ("the cat", "café"), ("東京", " so"), ("\n", "Yes?")])
def test_without_marks_the_same_is_learned_as_with_them(name, answers):
    messages = turns("is it so?", answers[0], "on the mat", answers[1])
    tokenizer = with_template(name, MARKED, text=False)
    theirs = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    wanted = (theirs["input_ids"], list(map(bool, theirs["assistant_masks"])))
    assert 0 < sum(wanted[1]) < len(wanted[1])
    for template in (PLAIN, MARKED):
        assert encode(messages, with_template(name, template), "\n") == wanted


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("template", [PLAIN, MARKED, PLAIN.replace("{{ m.content }}", "{{ m.content | trim }}")])
def test_content_that_spells_marks_is_text(name, template):
    """The oracle: a tokenizer that knows the marks of the template under other names, so that content spells none."""
    contents = ["<s>old price</s>12 the", "</s>", "a</s><s>b", " is it <s> so "]
    ids, _ = encode(turns(*contents), with_template(name, template), "\n")
    backend = TOKENIZERS[name].backend_tokenizer.to_str()
    renamed = Tokenizer.from_str(backend.replace('"<s>"', '"{s}"').replace('"</s>"', '"{/s}"'))
    one, two, three, four = [part.strip() for part in contents] if "trim" in template else contents
    text = f"User: {one} Assistant: {two}{{/s}}User: {three} Assistant: {four}{{/s}}"
    assert ids == renamed.encode(text, add_special_tokens=False).ids
    assert ids.count(TOKENIZERS[name].eos_token_id) == 2 and TOKENIZERS[name].bos_token_id not in ids


def test_bytes_of_spelled_marks_are_those_that_transformers_gives():
    tokenizer = with_template("bytes", PLAIN)
    messages = turns("<s>old</s>", "no </s> more")
    theirs = with_template("bytes", PLAIN, False).apply_chat_template(
        messages, tokenize=True, sanitize_control_tokens=True, return_dict=True
    )
    ids, learned = encode(messages, tokenizer, "\n")
    assert ids == theirs["input_ids"]
    assert learned == [place >= len("User: <s>old</s> Assistant: ") for place in range(len(ids))]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("template", [PLAIN, MARKED, None])
def test_content_without_marks_is_encoded_as_ever(name, template):
    """Text or tokens make no difference then; and tokens are what the whole string gives."""
    messages = turns("is it so? café", " the  cat\n", "", "on <the> mat</s")
    as_text, as_tokens = (encode(messages, with_template(name, template, text), "\n") for text in (True, False))
    assert as_text == as_tokens
    if template:
        tokenizer = with_template(name, template, False)
        assert as_text[0] == tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]


def test_special_tokens_without_a_role_are_marks_too():
    """As those that begin and end the name of a role in Llama 3."""
    backend = Tokenizer.from_str(TOKENIZERS["bytes"].backend_tokenizer.to_str())
    backend.add_special_tokens(["<|mark|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template, tokenizer.split_special_tokens = PLAIN.replace("User: ", "<|mark|>"), True
    assert "<|mark|>" not in tokenizer.all_special_tokens
    assert Spelled(tokenizer, "text").first({"content": "a <|mark|>"}) == "<|mark|>"
    text = tokenizer("<|mark|> Assistant: a", split_special_tokens=True)["input_ids"]
    assert encode(turns("<|mark|>", "a"), tokenizer, "\n")[0] == [258, *text, 257]


def test_marks_that_the_tokenizer_does_not_find_are_told():
    """A normalizer that puts a blank before each piece of text hides normalised marks that are not at its beginning."""
    description = json.loads(TOKENIZERS["metaspace"].backend_tokenizer.to_str())
    for token in description["added_tokens"]:
        token["normalized"] = True
    backend = Tokenizer.from_str(json.dumps(description))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template, tokenizer.split_special_tokens = PLAIN, True
    with pytest.raises(BadRow, match="does not find the template's special tokens"):
        encode(turns("<s>", "a"), tokenizer, "\n")


def test_as_tokens_content_that_spells_marks_is_marks():
    tokenizer = with_template("bytes", PLAIN, text=False)
    ids, _ = encode(turns("<s>old</s>", "x"), tokenizer, "\n")
    parts = [tokenizer(text).input_ids for text in ("User: ", "old", " Assistant: x")]
    assert ids == [*parts[0], 256, *parts[1], 257, *parts[2], 257]


def test_without_a_template_content_is_text_and_the_separator_may_hold_marks():
    tokenizer = with_template("bytes", None)
    ids, learned = encode(turns("<s>old", "</s>"), tokenizer, "</s>\n")
    text = [tokenizer(one, split_special_tokens=True).input_ids for one in ("<s>old", "\n", "</s>")]
    assert ids == [256, *text[0], 257, *text[1], *text[2], 257]
    assert learned == [False] * 9 + [True] * 5


def test_a_template_that_looks_for_marks_in_content_makes_a_row_bad():
    tokenizer = with_template("bytes", PLAIN.replace("{{ m.content }}", "{{ m.content.split('</s>')[0] }}"))
    encode(turns("q", "a"), tokenizer, "\n")
    with pytest.raises(BadRow, match="special_tokens_in_text=tokens"):
        encode(turns("q</s>r", "a"), tokenizer, "\n")


def test_private_characters_do_not_become_marks():
    tokenizer = with_template("bytes", PLAIN)
    strange = chr(0x100000) * 4 + chr(0x100001) * 4
    assert tokenizer.decode(encode(turns(strange, "a"), tokenizer, "\n")[0]) == f"User: {strange} Assistant: a</s>"
    with pytest.raises(BadRow, match="private characters"):
        encode(turns(strange + "</s>", "a"), tokenizer, "\n")


@pytest.mark.parametrize(
    "mark", ["{% generation %}", "{%- generation %}", "{%generation%}", "{%-   generation   -%}", "{%+ generation %}"]
)
def test_generation_marks_in_all_their_spellings(mark):
    """What is outside of them is not learned, such as the EOS here."""
    template = OPEN + mark + "{{ m.content }}{%- endgeneration -%}</s>{% endif %}{% endfor %}"
    template += "{% if add_generation_prompt %}Assistant: {% endif %}"
    assert has_marks(template)
    tokenizer = with_template("bytes", template)
    assert "".join(learned_tokens(tokenizer, turns("q", "yes", "r", "no"))) == "yesno"


def test_marks_in_a_comment_or_in_words_are_none():
    assert not has_marks("{# {% generation %} #}" + PLAIN)
    assert not has_marks("{% if generation %}x{% endif %}{{ '{% generation %}' }}{% raw %}{% generation %}{% endraw %}")


def test_marks_inside_of_a_macro_are_told():
    template = "{% macro turn(m) %}Assistant: {% generation %}{{ m.content }}</s>{% endgeneration %}{% endmacro %}"
    template += (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}{{ turn(m) }}{% endif %}{% endfor %}"
    )
    with pytest.raises(BadRow, match="generation marks of the chat template do not hold the answer"):
        encode(turns("q", "a long answer"), with_template("bytes", template), "\n")


def test_answers_that_are_rendered_differently_later_on_are_learned_in_their_turn():
    tokenizer = with_template("bytes", THOUGHTS)
    messages = turns("q1", "a1", "q2", "a2")
    messages[1]["reasoning_content"] = "one"
    texts = [
        ("".join(tokenizer.decode(ids)), tokenizer.decode(list(itertools.compress(ids, learned))))
        for ids, learned in encode_all(conversation(messages), tokenizer, "\n")
    ]
    first = "<|user|>q1</s><|assistant|><think>one</think>a1</s>"
    second = "<|user|>q1</s><|assistant|>a1</s><|user|>q2</s><|assistant|><think></think>a2</s>"
    assert texts == [(first, "<think>one</think>a1</s>"), (second, "<think></think>a2</s>")]


def test_rows_of_several_texts_are_trained_on_and_keep_their_score(run):
    with_template("bytes", THOUGHTS).save_pretrained(run.folder / "model")
    rows = [{"messages": turns("q1", "a1", "q2", "a2"), "score": 2.0}, {"messages": turns("q", "a"), "score": 5.0}]
    write_rows(run.folder / "in.jsonl", rows)
    keys = ["max_length=64", "epochs=1", "batch_size=1", "gradient_accumulation_steps=1"]
    assert main(STAGE, run.words(*keys, method="posttrain")) == 0
    answer, before = len("<think></think>a1") + 1, 51  # tokens before the second answer, which the length cuts
    counts = [answer, 64 - before, answer - 1]
    assert [entry["tokens"] for entry in run.log()] == list(itertools.accumulate(counts))
    assert [entry["score"] for entry in run.log()] == [2, 2, 5]
    facts = run.manifest()
    assert (facts["rows"], facts["rows_of_several_texts"], facts["cut_documents"]) == (2, 1, 1)
    keys[0] = "max_length=40"  # the first answer is cut, of the second one nothing is left
    assert main(STAGE, run.words(*keys, "resume=never", method="posttrain")) == 0
    assert [entry["tokens"] for entry in run.log()] == [40 - 24, 40 - 24 + answer - 1]
    assert run.manifest()["cut_documents"] == 2


def test_slow_tokenizers_are_told(monkeypatch):
    tokenizer = with_template("bytes", PLAIN)
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        encode(turns("q", "a"), tokenizer, "\n")
