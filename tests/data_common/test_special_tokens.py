"""Text that spells special tokens, and tokens without an embedding: ids counted by hand with one token a byte."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as token_models
from transformers import AddedToken, ByT5Tokenizer, PreTrainedTokenizerFast

from data_common.calls.cli import main
from data_common.models import special_tokens
from data_common.models.loading import load_tokenizer
from data_common.models.special_tokens import Spelled, as_meant, read_as, warning
from data_common.models.tokens import encode
from data_scoring.entry import STAGE as SCORING
from data_selection.entry import STAGE as SELECTION
from model_eval.entry import STAGE as EVALUATION
from model_train.entry import STAGE as TRAINING
from tests.models import byte_tokenizer, save_model

BOS, EOS = 256, 257
ROWS = ["<s>old price</s>", "a plain row", "another one", "x </s> y"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model")
    write("in.jsonl", ROWS)
    return tmp_path


def write(name, texts):
    with open(name, "w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)


def scores(name):
    with open(name) as file:
        return [json.loads(line)["score"] for line in file]


def count_of(text, special):
    """Tokens of a text under the byte tokenizer, those around it left out."""
    return len(text) - (0 if special == "text" else 2 * text.count("<s>") + 3 * text.count("</s>"))


@pytest.mark.parametrize("special", ["text", "tokens"])
def test_ids(here, special):
    tokenizer = load_tokenizer("model", special=special)
    for text, ids in zip(ROWS, encode(ROWS, tokenizer), strict=True):
        assert len(ids) == count_of(text, special) + 2 and (ids[0], ids[-1]) == (BOS, EOS)
        inside = sum(one in (BOS, EOS) for one in ids[1:-1])
        assert inside == (0 if special == "text" else text.count("<s>") + text.count("</s>"))


def test_what_is_set_for_reading_is_not_saved(here):
    load_tokenizer("model", special="text").save_pretrained("saved")
    assert EOS in load_tokenizer("saved")("a</s>")["input_ids"]


def test_rows_are_counted():
    spelled = Spelled(byte_tokenizer(), "text")
    assert list(spelled(ROWS)) == ROWS and (spelled.found, spelled.texts) == (2, 4)
    spelled.count([{"role": "user", "content": "say </s>"}], 3, None)
    assert spelled.found == 3 and spelled.facts() == {"rows_that_spell_special_tokens": 3}
    assert "(such as <s>)" in spelled.warning() and "special_tokens_in_text=tokens" in spelled.warning()
    assert warning(1, 100, "text") is None and warning(2, 100, "tokens") is not None


def test_special_tokens_without_a_name_are_counted():
    """As Llama 3's and Qwen's reserved tokens and those of chats; a word that was added is no special token."""
    tokenizer = byte_tokenizer()
    reserved = [AddedToken(f"<|{number}|>", special=True) for number in range(1000)]
    tokenizer.add_tokens([*reserved, AddedToken("[X]", special=True), AddedToken("word", special=False)])
    read_as(tokenizer, "text")
    spelled = Spelled(tokenizer, "text")
    assert len(list(spelled(["a <|7|> b", "[X]", "a word", "<|1000|>", "<b>"]))) == 5 and spelled.found == 2
    assert 258 + 1001 in encode(["a word"], tokenizer)[0] and len(encode(["a <|7|> b"], tokenizer)[0]) == 11


@pytest.mark.parametrize("kind", ["words", "pieces"])
def test_a_tokenizer_that_cannot_read_special_tokens_as_text_is_told(kind, capsys):
    if kind == "words":
        whole = Tokenizer(token_models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2, "a": 3}, "<unk>"))
        whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:  # as those of XLM-RoBERTa, T5 and XGLM: special tokens are pieces like others
        whole = Tokenizer(token_models.Unigram([("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("a", -1.0)], 0))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=whole, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    special_tokens._tell_once.cache_clear()
    read_as(tokenizer, "tokens")
    assert not capsys.readouterr().out
    read_as(tokenizer, "text")
    assert "takes </s>, <s> in a text for tokens" in capsys.readouterr().out
    assert tokenizer("a </s> a", add_special_tokens=False)["input_ids"].count(tokenizer.eos_token_id) == 1


def test_a_tokenizer_in_python_reads_added_words_as_text_too(capsys):
    special_tokens._tell_once.cache_clear()
    tokenizer = ByT5Tokenizer()
    tokenizer.add_tokens(["word"])
    for special, found in (("text", False), ("tokens", True)):
        read_as(tokenizer, special)
        spelled = Spelled(tokenizer, special)
        assert list(spelled(["a word", "</s>", "else"])) and spelled.found == 2
        ids = [one for ids in encode(["a word", "a </s>"], tokenizer) for one in ids[:-1]]
        wanted = {tokenizer.convert_tokens_to_ids("word"), tokenizer.eos_token_id}
        assert (wanted <= set(ids)) == found and (not wanted & set(ids)) == (not found)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("method", ["perplexity", "min-k"])
def test_scoring(here, capsys, method):
    found = {}
    for special in ("text", "tokens"):
        words = [method, "model=model", "max_length=60", f"special_tokens_in_text={special}"]
        assert main(SCORING, ["in.jsonl", f"{special}.jsonl", *words]) == 0
        assert f"2 of 4 rows spell special tokens, read as {special}" in capsys.readouterr().out
        found[special] = scores(f"{special}.jsonl")
    assert main(SCORING, ["in.jsonl", "default.jsonl", method, "model=model", "max_length=60"]) == 0
    assert scores("default.jsonl") == found["text"]
    same = np.isclose(found["text"], found["tokens"], rtol=1e-5)  # batches differ, and so does the rounding
    assert same.tolist() == [False, True, True, False]


def test_lqs_tokens(here):
    write("target.jsonl", ["a target"])
    keys = ["annotator_model=model", "target_data=target.jsonl", "steps=2", "interval=1", "batch_size=2"]
    for special in ("text", "tokens"):
        words = [*keys, "max_length=60", f"special_tokens_in_text={special}"]
        assert main(SCORING, ["in.jsonl", f"{special}.jsonl", "lqs", *words]) == 0
        record = json.loads((here / f"{special}.jsonl.work/tokenize/step.json").read_text())
        assert record["facts"]["tokens"] == sum(count_of(text, special) + 2 for text in ROWS)
        assert record["facts"]["rows_that_spell_special_tokens"] == 2


def test_evaluation_and_budget(here, capsys):
    for special in ("text", "tokens"):
        words = ["perplexity", "data=in.jsonl", "max_length=60", f"special_tokens_in_text={special}"]
        assert main(EVALUATION, ["model", f"{special}.yaml", *words]) == 0
        wanted = sum(count_of(text, special) for text in ROWS)
        assert f"tokens: {wanted}\n" in (here / f"{special}.yaml").read_text()
        assert "2 of 4 rows spell special tokens (such as <s>)" in capsys.readouterr().out


def test_training(here, capsys, monkeypatch):
    monkeypatch.setenv("DELT_CACHE", str(here / "cache"))
    for special in ("text", "tokens"):
        words = ["pretrain", "max_length=20", "batch_size=1", "gradient_accumulation_steps=1", "warmup_steps=1"]
        words += [f"special_tokens_in_text={special}", "max_tokens=60", "report_to=none"]
        assert main(TRAINING, ["in.jsonl", "model", special, *words]) == 0
        assert f"2 of 4 rows spell special tokens, read as {special}" in capsys.readouterr().out
    stores = sorted(len(np.fromfile(path, np.uint16)) for path in here.glob("cache/tokens/*/tokens.bin"))
    assert stores == sorted(sum(count_of(text, special) + 2 for text in ROWS) for special in ("text", "tokens"))


def test_chunks_are_tokens_in_the_stages_that_follow(here, capsys):
    write("target.jsonl", ["a target"])
    write("docs.jsonl", ["One. Two. Three.", "Four. Five.", "Six. Seven."])
    keys = ["annotator_model=model", "target_data=target.jsonl", "steps=2", "interval=1", "batch_size=2"]
    assert main(SCORING, ["docs.jsonl", "chunks.jsonl", "lqs", *keys, "max_length=30", "granularity=chunk"]) == 0
    assert "</s>" in (here / "chunks.jsonl").read_text()
    assert "spell special tokens" not in capsys.readouterr().out
    assert main(SELECTION, ["chunks.jsonl", "best.jsonl", "top-r", "r=0.9"]) == 0
    assert as_meant("text", ["best.jsonl"]) == "tokens" and as_meant("text", ["docs.jsonl"]) == "text"
    assert "EOS joins documents" in capsys.readouterr().out


def test_tokens_without_an_embedding_matter_where_they_occur(here, capsys):
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained("model")
    words = ["perplexity", "model=model", "max_length=60"]
    assert main(SCORING, ["in.jsonl", "out.jsonl", *words]) == 0
    write("in.jsonl", [*ROWS, "a [PAD] b"])
    assert main(SCORING, ["in.jsonl", "as_text.jsonl", *words]) == 0
    capsys.readouterr()
    assert main(SCORING, ["in.jsonl", "tokens.jsonl", *words, "special_tokens_in_text=tokens"]) == 2
    assert "text 5 holds the token [PAD], of which the model has no embedding" in capsys.readouterr().err
    assert main(EVALUATION, ["model", "r.yaml", "perplexity", "data=in.jsonl", "special_tokens_in_text=tokens"]) == 2
    assert "row 5 holds the token [PAD]" in capsys.readouterr().err
