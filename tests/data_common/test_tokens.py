"""Tokenising, cutting and batching: nothing lost, nothing reordered."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_common.models.tokens import (
    IGNORED,
    TokenStore,
    encode,
    pad,
    token_budget_batches,
    tokenize,
    windows,
    without_end,
)
from tests.models import byte_tokenizer

DOCUMENTS = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def store_of(lengths):
    """Documents with all tokens distinct, so that every position can be told from every other."""
    lengths = np.array(lengths)
    return TokenStore(np.arange(lengths.sum()), np.cumsum(lengths) - lengths, lengths)


@given(DOCUMENTS, st.integers(2, 7), st.integers(0, 1))
def test_windows_cover_every_document(lengths, max_length, overlap):
    store = store_of(lengths)
    parts, document = windows(store, max_length, overlap)
    for number, whole in enumerate(store):
        mine = [parts[i] for i in np.flatnonzero(document == number)]
        assert all(len(part) <= max_length for part in mine)
        if overlap:
            assert all(len(part) >= 2 for part in mine)
            assert all(left[-1] == right[0] for left, right in itertools.pairwise(mine))
            np.testing.assert_array_equal(np.concatenate([part[1:] for part in mine] or [whole[1:]]), whole[1:])
        else:
            np.testing.assert_array_equal(np.concatenate(mine), whole)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_token_budget_batches_cover_every_document_within_the_budget(lengths, budget):
    lengths = np.array(lengths, dtype=int)
    batches = token_budget_batches(lengths, budget)
    np.testing.assert_array_equal(np.sort(np.concatenate([*batches, []])), np.arange(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget


def test_a_document_is_bos_text_eos():
    assert encode(["ab", ""], byte_tokenizer()) == [[256, *byte_tokenizer()("ab")["input_ids"], 257], [256, 257]]


def test_tokenize_streams():
    texts = ["abc", "é" * 50, "x"]
    store = tokenize((text for text in texts), byte_tokenizer())
    whole = encode(texts, byte_tokenizer())
    assert [document.tolist() for document in store] == whole
    assert store.tokens.dtype == np.uint16
    assert [d.tolist() for d in store.take(np.array([2, 0]))] == [whole[2], whole[0]]


def test_the_end_of_a_text_is_eos_or_sep():
    tokenizer = byte_tokenizer()
    texts, end = ["abc", "x"], tokenizer.eos_token
    expected = [document[:-1] for document in encode(texts, tokenizer)]
    for eos, sep in ((end, None), (None, end), (None, None)):
        tokenizer.eos_token, tokenizer.sep_token = eos, sep
        store = without_end(tokenize(texts, tokenizer), tokenizer)
        assert [document.tolist() for document in store] == expected


def test_no_texts_give_an_empty_store():
    assert len(tokenize([], byte_tokenizer())) == 0


def test_padding_is_masked():
    ids, labels = pad([np.array([5, 6]), np.array([0])])
    assert ids.tolist() == [[5, 6], [0, 0]]
    assert labels.tolist() == [[5, 6], [0, IGNORED]]
