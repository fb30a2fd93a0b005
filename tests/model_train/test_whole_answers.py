"""Answers are learned whole or refused, and in the tokens that prompt and answer have as one text."""

import itertools

import pytest
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from data_common.calls.cli import main
from data_common.chat.conversations import encode, encode_all
from data_common.chat.fields import conversation
from data_common.chat.formats import one_turn
from data_common.chat.whole import Shortened
from model_train.entry import STAGE
from tests.model_train.conftest import write_rows
from tests.model_train.test_answers import TOKENIZERS, turns, with_template

CHAT = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}MARK{{ ANSWER }}</s>END{% else %}"
    "{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
UNMARKED = CHAT.replace("MARK", "").replace("END", "")
MARKED = CHAT.replace("MARK", "{% generation %}").replace("END", "{% endgeneration %}")
WITHOUT_THOUGHTS = "m.content.split('</think>')[-1]"  # as the distilled models of DeepSeek-R1
ONLY_LAST_THOUGHTS = "m.content if loop.last else m.content.split('</think>')[-1]"
REASONING = "('<think>' + m.reasoning_content + '</think>' if loop.last and m.reasoning_content else '') + m.content"
WHOLE = {
    "as it is": "m.content",
    "trimmed": "m.content | trim",
    "JSON": "m.content | tojson",
    "JSON of the trimmed": "m.content | trim | tojson",
    "HTML": "m.content | e",
    "thoughts apart": (
        "'<think>\n' + m.content.split('</think>')[0].split('<think>')[-1].strip('\n') + '\n</think>\n\n' "
        "+ m.content.split('</think>')[-1].lstrip('\n')"
    ),
}


def learned_texts(template, messages, shortened=False):
    """-> [(text, what is learned of it)]"""
    tokenizer = with_template("bytes", template)
    encoded = encode_all(conversation(messages), tokenizer, "\n", shortened)
    return [(tokenizer.decode(ids), tokenizer.decode(list(itertools.compress(ids, one)))) for ids, one in encoded]


@pytest.mark.parametrize("template", [UNMARKED, MARKED])
def test_an_answer_that_the_template_shortens_is_refused(template):
    template = template.replace("ANSWER", WITHOUT_THOUGHTS)
    messages = turns("q", "<think>a b</think>yes")
    with pytest.raises(Shortened, match=r"a part of messages\[1\]\.content, .*on_shortened_answer=learn"):
        learned_texts(template, messages)
    whole = "<user>q<assistant>yes</s>"
    assert learned_texts(template, messages, shortened=True) == [(whole, "yes</s>")]
    assert learned_texts(template, turns("q", "yes")) == [(whole, "yes</s>")]


@pytest.mark.parametrize("template", [UNMARKED, MARKED])
@pytest.mark.parametrize("rendering", WHOLE)
def test_an_answer_that_is_only_spelled_differently_is_whole(template, rendering):
    content = ' <think>\na "b"\n</think>\n\n<b>yes</b> & é\\n \n'
    [(_, learned)] = learned_texts(template.replace("ANSWER", WHOLE[rendering]), turns("q", content))
    assert "yes" in learned and "think" in learned


@pytest.mark.parametrize("template", [UNMARKED, MARKED])
def test_whatever_is_left_out_is_noticed_but_blanks_at_the_ends(template):
    content = " ab c\n"
    for begin, end in itertools.combinations(range(len(content) + 1), 2):
        cut, messages = template.replace("ANSWER", f"m.content[{begin}:{end}]"), turns("q", content)
        found = [(f"<user>q<assistant>{content[begin:end]}</s>", f"{content[begin:end]}</s>")]
        assert learned_texts(cut, messages, shortened=True) == found
        if content[begin:end].strip() == content.strip():
            assert learned_texts(cut, messages) == found
        else:
            with pytest.raises(Shortened):
                learned_texts(cut, messages)


@pytest.mark.parametrize("template", [UNMARKED, MARKED])
def test_what_others_say_is_not_taken_for_the_answer(template):
    content = "<think>a</think>yes"
    with pytest.raises(Shortened):
        learned_texts(template.replace("ANSWER", WITHOUT_THOUGHTS), turns(content, content, content, content))


@pytest.mark.parametrize("template", [UNMARKED, MARKED])
def test_thoughts_that_are_left_out_later_on_are_learned_in_their_turn(template):
    for rendering, messages in (
        (ONLY_LAST_THOUGHTS, turns("q", "<think>one</think>a", "r", "<think>two</think>b")),
        (REASONING, [turn | {"reasoning_content": None} for turn in turns("q", "a", "r", "b")]),
    ):
        if rendering == REASONING:
            messages[1]["reasoning_content"], messages[3]["reasoning_content"] = "one", "two"
        first = "<user>q<assistant><think>one</think>a</s>"
        second = "<user>q<assistant>a</s><user>r<assistant><think>two</think>b</s>"
        assert learned_texts(template.replace("ANSWER", rendering), messages) == [
            (first, "<think>one</think>a</s>"),
            (second, "<think>two</think>b</s>"),
        ]
    with pytest.raises(Shortened, match=r"messages\[1\]\.reasoning_content"):
        cut = REASONING.replace("+ m.reasoning_content +", "+ m.reasoning_content[:2] +")
        learned_texts(template.replace("ANSWER", cut), messages)


def test_the_beginning_of_an_answer_may_stand_in_its_opening():
    """As in templates of models that always think."""
    opening = "<assistant>{% endif %}"
    template = UNMARKED.replace(opening, "<assistant><think>\n{% endif %}").replace("ANSWER", "m.content")
    content = "<think>\na\n</think>\nyes"
    assert learned_texts(template, turns("q", content))[0][1] == "a\n</think>\nyes</s>"
    template = MARKED.replace("{% generation %}", "<think>\n{% generation %}").replace("ANSWER", "m.content[8:]")
    messages = turns("q", content, "r", content)
    assert learned_texts(template, messages)[0][1] == "a\n</think>\nyes</s>" * 2


def test_a_call_refuses_drops_or_learns_and_counts(run, capsys):
    with_template("bytes", UNMARKED.replace("ANSWER", WITHOUT_THOUGHTS)).save_pretrained(run.folder / "model")
    rows = [{"prompt": "q", "response": "yes"}, {"prompt": "q", "response": "<think>a</think>no"}]
    write_rows(run.folder / "in.jsonl", rows)
    keys = ["max_length=64", "epochs=1"]
    assert main(STAGE, run.words(*keys, method="posttrain")) == 2
    message = "in.jsonl:2: the chat template leaves out or rewrites a part of messages[1].content"
    assert message in capsys.readouterr().err
    assert main(STAGE, run.words(*keys, "on_bad_row=drop", method="posttrain")) == 0
    assert run.manifest()["trained_tokens"] == len("yes") + 1
    keys += ["on_shortened_answer=learn", "resume=never"]
    assert main(STAGE, run.words(*keys, method="posttrain")) == 0
    assert "rows with shortened answers 1" in capsys.readouterr().out
    facts = run.manifest()
    assert facts["rows_with_shortened_answers"] == 1
    assert facts["trained_tokens"] == len("yes") + 1 + len("no") + 1


PAIRS = [
    ("Is it so? Answer: ", "", "Yes"),
    ("Is it so? Answer:", " ", "Yes"),
    ("is it so? (", "", "Yes"),
    ("is it so?", "\n", "the cat sat"),
    ("so", "\n", " No "),
    ("", "", "the cat?"),
    ("say <s>", "\n", "</s> Yes"),
    ("say", "</s> ", "Yes <s>"),
]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(("prompt", "separator", "answer"), PAIRS)
def test_without_a_template_prompt_and_answer_have_the_tokens_of_one_text(name, prompt, separator, answer):
    """The oracle is the tokenizer's own map from characters to tokens."""
    special = "<s>" in prompt + answer or separator == "</s> "
    tokenizer = with_template(name, None, text=not special)
    begin, text = len(prompt + separator), prompt + separator + answer
    alone = tokenizer(text, add_special_tokens=False)
    learned = {alone.char_to_token(place) for place in range(begin, len(text))}
    ids, mask = encode(one_turn(prompt, answer), tokenizer, separator)
    assert ids == [tokenizer.bos_token_id, *alone["input_ids"], tokenizer.eos_token_id]
    assert mask == [False, *(place in learned for place in range(len(ids) - 2)), True]


@pytest.mark.parametrize("fast", [True, False])
def test_the_first_token_of_an_answer_is_that_of_the_joint_text(monkeypatch, fast):
    """A tokenizer that puts a blank before each text would learn another one; by hand."""
    vocabulary = ["<unk>", "<s>", "</s>", "▁", "a", "(", "Y", "▁Y", "▁a", "</s", ">"]
    backend = Tokenizer(models.BPE({one: i for i, one in enumerate(vocabulary)}, [("▁", "Y"), ("▁", "a")]))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    monkeypatch.setattr(type(tokenizer), "is_fast", fast)
    assert tokenizer("Y")["input_ids"] == [7]
    assert encode(one_turn("a", "Y"), tokenizer, "(") == ([1, 8, 5, 6, 2], [False] * 3 + [True] * 2)
    assert encode(one_turn("a", "Y"), tokenizer, " ") == ([1, 8, 7, 2], [False] * 2 + [True] * 2)
    several = turns("a", "Y", "a", "(Y")
    several[1]["weight"] = 0
    chat = conversation(several)
    ids, learned = encode_all(chat, tokenizer, "(")[0]
    assert ids == [1, 8, 5, 6, 2, 8, 5, 5, 6, 2]
    assert learned == [False] * 7 + [True] * 3


def test_content_that_spells_marks_is_text_in_the_joint_text_too():
    tokenizer = with_template("bytes", None)
    ids, learned = encode(turns("<s>a", "</s>b", "<s>", "c"), tokenizer, "</s>")
    parts = [tokenizer(one, split_special_tokens=True).input_ids for one in ("<s>a", "</s>b", "<s>", "c")]
    assert ids == [256, *parts[0], 257, *parts[1], 257, *parts[2], 257, *parts[3], 257]
    lengths = [1 + 4 + 1, 5 + 1, 3 + 1, 1 + 1]
    assert learned == [place in (1, 3) for place, length in enumerate(lengths) for _ in range(length)]
