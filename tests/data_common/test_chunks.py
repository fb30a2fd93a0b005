"""Chunks against a search character by character; nothing lost, nothing too long, with byte and word-piece tokens."""

import json
from functools import cache
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerFast

from data_common.messages.errors import UserError
from data_common.models.tokens import ENCODE_BATCH, encode
from data_common.rows.chunks import cut_chunks, write_chunks
from tests.models import byte_tokenizer

STORY = "The cat sat. The dog ran! Did the bird sing? It did. 「猫。」犬が走る。 The end…\nThe cat sat. The end.\n\n😀 "
PIECES = ["The cat", " sat", ". ", ".", "! The", '?" ', "。", "。」", "」", "\n", "\r\n", "\n\n", " ", "  ", "\u2028"]
PIECES += ["é", "猫", "😀", "👩‍👩‍👧", "e\u0301", "x" * 30, "…", "\u00a0", "<s", "/s>"]
TEXT = st.lists(st.sampled_from(PIECES), min_size=1, max_size=30).map("".join).filter(str.strip)
DOCUMENTS = st.lists(TEXT, min_size=1, max_size=12).map(lambda texts: list(enumerate(texts)))
CLOSING = "\"'”’»)]}」』）】》〉"  # noqa: RUF001
WIDE_STOPS = "。！？｡"  # noqa: RUF001
LINE_ENDS = "\n\r\u2028\u2029"


@cache
def trained_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Byte-level merges across spaces and full stops; or marked word beginnings, with a mark before every text."""
    tokenizer = Tokenizer(token_models.BPE(unk_token="<unk>", byte_fallback=kind == "marked"))
    special, alphabet = ["<unk>", "<s>", "</s>"], pre_tokenizers.ByteLevel.alphabet()
    if kind == "across":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        special, alphabet = special + [f"<0x{byte:02X}>" for byte in range(256)], []
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([STORY] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    return byte_tokenizer() if kind == "bytes" else trained_tokenizer(kind)


def is_sentence_end(text: str, place: int) -> bool:
    before, after = text[:place], text[place:]
    if not before or not after.strip():
        return False
    spaces = after[: len(after) - len(after.lstrip())]
    if any(character in LINE_ENDS for character in spaces):
        return False  # the end of the line is the better place
    bare = before.rstrip(CLOSING)
    if before[-1] in LINE_ENDS or (bare.endswith(tuple(".!?…")) and spaces):
        return True
    return (
        bare.endswith(tuple(WIDE_STOPS)) and after[0] not in CLOSING and (bare != before or after[0] not in WIDE_STOPS)
    )


def expected_chunks(documents, max_length: int) -> list[tuple[list[int], str]]:
    """Character by character, for one token a byte. A joint is one token, written as a character of one byte."""
    stream = "\0".join(text for _, text in documents)
    ends = set()
    for document, (_, text) in enumerate(documents):
        first = sum(len(text) + 1 for _, text in documents[:document])
        ends |= {first + place for place in range(len(text)) if is_sentence_end(text, place)} | {first + len(text)}
    chunks, begin = [], 0
    while begin < len(stream):
        fitting = [p for p in range(begin + 1, len(stream) + 1) if len(stream[begin:p].encode()) <= max_length - 2]
        stop = max(ends.intersection(fitting), default=fitting[-1])
        numbers = range(stream[:begin].count("\0"), stream[:stop].count("\0") + 1)
        chunks.append(([documents[number][0] for number in numbers], stream[begin:stop].replace("\0", "</s>")))
        begin = stop + (stream[stop : stop + 1] == "\0")
    return chunks


def reassembled(chunks, joint: str = "</s>") -> dict:
    texts: dict = {}
    for source_ids, text in chunks:
        for source_id, part in zip(source_ids, text.split(joint), strict=True):
            texts[source_id] = texts.get(source_id, "") + part
    return texts


@given(DOCUMENTS, st.integers(6, 60))
def test_against_a_search_character_by_character(documents, max_length):
    assert list(cut_chunks(documents, byte_tokenizer(), max_length)) == expected_chunks(documents, max_length)


@pytest.mark.parametrize("kind", ["bytes", "across", "marked"])
@settings(deadline=None)
@given(documents=DOCUMENTS, max_length=st.integers(8, 60))
def test_nothing_is_lost_or_too_long_and_sentences_stay_whole(kind, documents, max_length):
    tokenizer = tokenizer_of(kind)
    chunks = list(cut_chunks(documents, tokenizer, max_length))
    assert reassembled(chunks) == dict(documents)
    assert all(len(tokens) <= max_length for tokens in encode([text for _, text in chunks], tokenizer))
    done = dict.fromkeys(dict(documents), 0)  # characters in the chunks so far
    for source_ids, text in chunks:
        for source_id, part in zip(source_ids, text.split("</s>"), strict=True):
            begin, stop = done[source_id], done[source_id] + len(part)
            done[source_id] = stop
        document = dict(documents)[source_ids[-1]]
        if stop < len(document) and not is_sentence_end(document, stop):  # a hard cut
            assert len(source_ids) == 1
            assert not any(is_sentence_end(document, place) for place in range(begin + 1, stop))


def test_merges_across_a_cut_do_not_make_a_chunk_too_long():
    """The trained tokenizers must be ones where a part takes more tokens alone than within its document."""
    text = STORY * 8
    for kind in "across", "marked":
        tokenizer = trained_tokenizer(kind)
        whole = len(tokenizer.tokenize(text))
        parts = [part for _, part in cut_chunks([(0, text)], tokenizer, 12)]
        assert sum(len(tokenizer.tokenize(part)) for part in parts) > whole
        assert max(map(len, encode(parts, tokenizer))) <= 12


def test_by_hand(tmp_path):
    documents = [("a", 'He said "no." Then he went. Slowly'), (7, "猫。犬が走る。"), ("c", "One\u2028two\n\nthree 😀")]
    path = tmp_path / "chunks.jsonl"
    assert write_chunks(documents, byte_tokenizer(), 30, path) == 4
    content = path.read_bytes()
    assert [json.loads(line) for line in content.split(b"\n")[:-1]] == [
        {"id": 0, "source_ids": ["a"], "text": 'He said "no." Then he went.'},
        {"id": 1, "source_ids": ["a", 7], "text": " Slowly</s>猫。"},
        {"id": 2, "source_ids": [7, "c"], "text": "犬が走る。</s>One\u2028two\n\n"},
        {"id": 3, "source_ids": ["c"], "text": "three 😀"},
    ]
    assert "猫".encode() in content  # readable, not escaped


def test_one_huge_word():
    word = "x" * 5_000 + "😀" * 500
    for kind in "bytes", "across":
        parts = [text for _, text in cut_chunks([(0, word)], tokenizer_of(kind), 100)]
        assert "".join(parts) == word
        assert max(map(len, encode(parts, tokenizer_of(kind)))) <= 100
    assert len(parts) < 100


def test_many_tiny_documents_are_read_in_batches():
    documents = [(f"d{number}", f"Line {number}.") for number in range(3 * ENCODE_BATCH + 5)]
    read = []
    chunks = cut_chunks((read.append(document) or document for document in documents), byte_tokenizer(), 64)
    first = next(chunks)
    assert len(read) == ENCODE_BATCH
    assert [first, *chunks] == expected_chunks(documents, 64)


def test_a_document_of_many_chunks_between_batches():
    documents = [
        (number, "Some words. More words\n" * (300 if number == ENCODE_BATCH - 1 else 1)) for number in range(600)
    ]
    assert list(cut_chunks(documents, byte_tokenizer(), 100)) == expected_chunks(documents, 100)


def test_without_end_token_documents_are_joined_by_a_newline():
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    assert list(cut_chunks([(0, "abc"), (1, "def"), (2, "ghi")], tokenizer, 8)) == [([0, 1], "abc\ndef"), ([2], "ghi")]


def test_chunks_of_white_space_alone_are_left_out_of_the_file(tmp_path):
    path = tmp_path / "chunks.jsonl"
    assert write_chunks([(0, "a." + " " * 100 + "b.")], byte_tokenizer(), 12, path) == 2
    rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    assert [row["id"] for row in rows] == [0, 1]
    assert [row["text"].strip() for row in rows] == ["a.", "b."]


def test_no_documents(tmp_path):
    assert write_chunks([], byte_tokenizer(), 16, tmp_path / "chunks.jsonl") == 0
    assert (tmp_path / "chunks.jsonl").read_bytes() == b""


@pytest.mark.parametrize("max_length", [0, 2, 5])
def test_too_small_max_length(tmp_path, max_length):
    with pytest.raises(UserError, match="'😀' of document d"):
        write_chunks([("d", "😀")], byte_tokenizer(), max_length, tmp_path / "chunks.jsonl")
    assert not list(tmp_path.iterdir())
    assert write_chunks([("d", "😀")], byte_tokenizer(), 6, tmp_path / "chunks.jsonl") == 1


def test_slow_tokenizer(tmp_path):
    slow = SimpleNamespace(is_fast=False, name_or_path="old")
    with pytest.raises(UserError, match="fast tokenizer"):
        write_chunks([(0, "a")], slow, 16, tmp_path / "chunks.jsonl")
