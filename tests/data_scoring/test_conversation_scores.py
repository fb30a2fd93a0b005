"""Instruction rows as texts: by a chat template or plain, their answers alone, in scoring, vectors and token counts."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from data_common.calls.cli import main
from data_common.chat.formats import one_turn
from data_common.chat.settings import TextFormat, spelled_as
from data_common.messages.errors import UserError
from data_common.rows.jsonl import open_source
from data_common.rows.texts import Texts
from data_ordering.entry import STAGE as ORDERING
from data_scoring.entry import STAGE
from data_selection.entry import STAGE as SELECTION
from tests.models import byte_tokenizer, save_model

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "</s>{% endgeneration %}{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
CHATS = [
    [*one_turn("1+1?", "2"), *one_turn("sure?", "yes, é")],
    one_turn("say ä", "ä"),
    [{"role": "system", "content": "be brief"}, *one_turn("q", "a longer answer")],
]
ROWS = [
    {"conversations": [{"from": {"user": "human", "assistant": "gpt"}.get(t["role"], t["role"]), "value": t["content"]}
                       for t in chat], "score": number}
    for number, chat in enumerate(CHATS)
]  # fmt: skip
PLAIN = ["\n".join(turn["content"] for turn in chat) for chat in CHATS]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("model", "prior")):
        save_model(tmp_path / name, seed=seed)
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(tmp_path / name)
    write("in.jsonl", ROWS)
    return tmp_path


def write(path, rows):
    with open(path, "w") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def read(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def score(*keys, source="in.jsonl", out="out.jsonl", name="perplexity"):
    words = [source, out, name, "model=model", "max_length=64", "dtype=float64", "score_field=new", *keys]
    assert main(STAGE, words) == 0
    return np.array([row["new"] for row in read(out)])


def oracle(folder, chats, answers):
    """(sum of nats, tokens) of each conversation, by transformers alone. answers: of these only."""
    model, found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64), []
    for chat in chats:
        tokenizer = byte_tokenizer()
        options = {"chat_template": TEMPLATE, "return_dict": True, "return_assistant_tokens_mask": True}
        encoded = tokenizer.apply_chat_template(chat, **options)
        ids, mask = torch.tensor(encoded["input_ids"]), torch.tensor(encoded["assistant_masks"], dtype=torch.bool)
        with torch.no_grad():
            logits = model(ids[None]).logits[0].double()
        nats = -torch.log_softmax(logits[:-1], 1)[torch.arange(len(ids) - 1), ids[1:]]
        nats = nats[mask[1:]] if answers else nats
        found.append((nats.sum().item(), len(nats)))
    return np.array(found).T


TEMPLATED = ["text_format=template", "chat_template=model"]


@pytest.mark.parametrize("answers", [False, True])
def test_by_the_template_against_transformers(here, answers):
    sums, counts = oracle("model", CHATS, answers)
    keys = [*TEMPLATED, *(["score_tokens=answer"] if answers else [])]
    np.testing.assert_allclose(score(*keys, "metric=nll", "extra_metrics=[bpb]"), sums / counts, rtol=1e-9)
    if answers:
        sizes = [sum(len(f"{t['content']}</s>".encode()) for t in chat if t["role"] == "assistant") for chat in CHATS]
        bits = np.array([row["bpb"] for row in read("out.jsonl")])
        np.testing.assert_allclose(bits, sums / np.log(2) / sizes, rtol=1e-9)
    manifest = json.loads((here / "out.jsonl.manifest.json").read_text())
    assert manifest["format"] == "sharegpt" and manifest["config"]["text_format"] == "template"
    assert manifest["inputs"]["chat_template"]["path"].endswith("model")
    assert "rows_that_spell_special_tokens" not in manifest["facts"]
    before, _ = oracle("prior", CHATS, answers)
    found = score(*keys, "prior_model=prior", "reduction=sum", out="color.jsonl", name="color-filter")
    np.testing.assert_allclose(found, before - sums, rtol=1e-9)


def test_plain_is_the_text_of_the_turns(here):
    write("texts.jsonl", [{"text": text} for text in PLAIN])
    expected = score(source="texts.jsonl", out="expected.jsonl")
    assert score("text_format=plain").tolist() == expected.tolist()


def test_the_least_likely_tokens_of_plain_answers(here):
    """Against the log-probabilities of the single tokens."""
    model, expected = AutoModelForCausalLM.from_pretrained("model", dtype=torch.float64), []
    for chat, text in zip(CHATS, PLAIN, strict=True):
        ids = torch.tensor([256, *byte_tokenizer()(text)["input_ids"]])
        with torch.no_grad():
            found = torch.log_softmax(model(ids[None]).logits[0].double(), 1)[torch.arange(len(ids) - 1), ids[1:]]
        position, kept = 0, []
        for turn in chat:
            size = len(turn["content"].encode())
            kept += found[position : position + size].tolist() if turn["role"] == "assistant" else []
            position += size + 1
        kept = sorted(kept)[: max(1, len(kept) // 5)]
        expected.append(np.mean(kept))
    np.testing.assert_allclose(score("text_format=plain", "score_tokens=answer", name="min-k"), expected, rtol=1e-9)


def test_rows_without_an_answer_are_too_short_for_it(here):
    write("in.jsonl", [*ROWS, {"conversations": [{"from": "human", "value": "q"}], "score": 9}])
    keys = ["text_format=plain", "score_tokens=answer"]
    assert len(score(*keys, "on_short=drop")) == len(ROWS)
    assert main(STAGE, ["in.jsonl", "o.jsonl", "perplexity", "model=model", "max_length=64", *keys]) == 2


def texts_of(rows, **keys):
    write("texts.jsonl", rows)
    with open_source("texts.jsonl") as source:
        return list(Texts(source, "text", reader=TextFormat(**keys).reader(source)))


def test_answers_stand_where_the_text_says(here):
    for keys in ({"text_format": "plain"}, {"text_format": "template", "chat_template": "model"}):
        end = "</s>" if "chat_template" in keys else ""
        for chat, text in zip(CHATS, texts_of(ROWS, **keys), strict=True):
            answers = [turn["content"] + end for turn in chat if turn["role"] == "assistant"]
            assert [text[slice(*span)] for span in text.answers] == answers
            assert text.said == "\n".join(turn["content"] for turn in chat)
    rendered = byte_tokenizer().apply_chat_template(CHATS[0], chat_template=TEMPLATE, tokenize=False)
    assert "<s>" + texts_of(ROWS, **keys)[0] == rendered


def test_content_that_spells_marks_is_counted(here):
    write("in.jsonl", [*ROWS, {"conversations": [{"from": "human", "value": "<s>"}, {"from": "gpt", "value": "a"}]}])
    score(*TEMPLATED)
    manifest = json.loads((here / "out.jsonl.manifest.json").read_text())
    assert manifest["facts"]["rows_that_spell_special_tokens"] == 1


def test_selection_and_ordering_read_the_same_texts(here):
    write("texts.jsonl", [{"text": text, "score": number} for number, text in enumerate(PLAIN)])
    keys = ["direction=higher", "tokenizer=model"]
    for tokens, kept in ((38, [2]), (39, [1, 2])):  # the rows have 11 and 28, BOS and EOS with them
        for name, more in (("texts", []), ("in", ["text_format=plain"])):
            words = [f"{name}.jsonl", f"{name}-{tokens}.jsonl", "token-budget", f"tokens={tokens}", *keys, *more]
            assert main(SELECTION, words) == 0
            assert [row["score"] for row in read(words[1])] == kept
    write("in.jsonl", [*ROWS, {"conversations": [{"from": "poet", "value": "x"}], "score": 3}])
    words = ["in.jsonl", "c.jsonl", "token-budget", "tokens=40", *keys, *TEMPLATED]
    assert main(SELECTION, words) == 2
    assert main(SELECTION, [*words, "on_bad_row=drop"]) == 0
    manifest = json.loads((here / "c.jsonl.manifest.json").read_text())
    assert sum(manifest["dropped_rows"].values()) == 1 and "chat_template" in manifest["inputs"]


def test_vectors_are_those_of_the_texts(here):
    write("texts.jsonl", [{"text": text, "score": number} for number, text in enumerate(PLAIN)])
    keys = ["embedder=model", "embedding_max_length=64", "device=cpu", "r=null", "k=2", "similarity=1"]
    method = "deita"
    for name, more in (("texts", []), ("in", ["text_format=plain"])):
        assert main(SELECTION, [f"{name}.jsonl", f"{name}.out.jsonl", method, "direction=higher", *keys, *more]) == 0
    assert [row["score"] for row in read("texts.out.jsonl")] == [row["score"] for row in read("in.out.jsonl")]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["text_format=template"], "text_format=template and chat_template=TOKENIZER go together"),
        (["chat_template=model"], "text_format=template and chat_template=TOKENIZER go together"),
        (["row_format=alpaca"], "row_format is of text_format=plain and template"),
        (["score_tokens=answer"], "score_tokens=answer is of rows with turns: text_format=plain or template"),
        (["text_format=plain", "row_fields={promt: q}"], "row_fields: promt is a field of no format"),
        (["text_format=plain", "row_format=dolly"], "in.jsonl:1: instruction is missing"),
        (["text_format=template", "chat_template=plain"], "chat_template=plain: that tokenizer has none"),
    ],
)
def test_keys_that_do_not_fit(here, capsys, keys, message):
    byte_tokenizer().save_pretrained(here / "plain")
    words = ["in.jsonl", "out.jsonl", "perplexity", "model=model", "max_length=64", "score_field=new", *keys]
    for more in ([], ["--dry-run"]):
        assert main(STAGE, [*words, *more]) == 2
        assert message in capsys.readouterr().err


def test_the_keys_survive_in_a_column():
    keys = TextFormat(text_format="plain", row_fields={"prompt": "q.x"}, ignored_fields=["tool"])
    assert spelled_as(keys.spelled()) == keys
    with pytest.raises(UserError, match="row_format is of"):
        TextFormat(row_format="dolly")


def test_orderings_take_the_keys_too():
    assert main(ORDERING, ["spt", "--help"]) == 0
