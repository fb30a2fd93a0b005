"""Packing and batching: nothing lost, nothing reordered, nothing predicted twice, nothing wrapped."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.modeling_flash_attention_utils import _is_packed_sequence, prepare_fa_kwargs_from_position_ids

from data_common.messages.errors import UserError
from data_common.models.token_cache import Corpus
from data_common.models.tokens import IGNORED, TokenStore
from model_train.batches import Batches
from model_train.sequences import PackedBlocks, SeparateDocuments, collate
from model_train.trainer import check_apart
from tests.models import CONFIGURATIONS, VOCABULARY, random_model

DOCUMENTS = st.lists(st.integers(1, 9), min_size=1, max_size=8)
LONGER = st.lists(st.integers(2, 9), min_size=1, max_size=8)


def store_of(lengths):
    """Documents with all tokens distinct, so that every position can be told from every other."""
    lengths = np.array(lengths)
    return TokenStore(np.arange(lengths.sum()), np.cumsum(lengths) - lengths, lengths)


def predicted(sequences):
    items = [sequences[i] for i in range(len(sequences))]
    return np.concatenate([item["input_ids"][item["labels"] != IGNORED] for item in items])


def check_documents(sequences, store):
    """`documents` tells of each sequence how many predicted tokens belong to which document, `owners` of each token."""
    before = 0
    for i in range(len(sequences)):
        documents, counts = sequences.documents(i)
        item = sequences[i]
        assert sequences.before(i) == before
        before += counts.sum()
        of_all = np.searchsorted(store.starts, item["input_ids"], side="right") - 1
        np.testing.assert_array_equal(np.broadcast_to(sequences.owners(i), len(of_all)), of_all)
        owner = np.searchsorted(store.starts, item["input_ids"][item["labels"] != IGNORED], side="right") - 1
        expected = np.unique(owner, return_counts=True)
        np.testing.assert_array_equal(documents, expected[0])
        np.testing.assert_array_equal(counts, expected[1])
    assert sequences.before(len(sequences)) == before == sequences.budget


@given(DOCUMENTS.filter(lambda x: sum(x) > 1), st.integers(2, 7))
def test_packed_blocks_predict_every_token_but_the_first_once_in_order(lengths, max_length):
    store = store_of(lengths)
    blocks = PackedBlocks(store, max_length)
    np.testing.assert_array_equal(predicted(blocks), store.tokens[1:])
    assert all(len(blocks[i]["input_ids"]) == max_length for i in range(len(blocks) - 1))
    for i in range(len(blocks) - 1):
        assert blocks[i]["input_ids"][-1] == blocks[i + 1]["input_ids"][0]
    check_documents(blocks, store)


@given(DOCUMENTS, st.integers(2, 7), st.integers(1, 60))
def test_packed_blocks_meet_a_token_budget_by_repeating_the_stream(lengths, max_length, budget):
    store = store_of(lengths)
    stream = np.tile(store.tokens, budget + 1)
    blocks = PackedBlocks(store, max_length, budget)
    np.testing.assert_array_equal(predicted(blocks), stream[1 : budget + 1])
    check_documents(blocks, store)


@given(LONGER, st.integers(3, 7), st.none() | st.integers(1, 60))
def test_blocks_that_keep_documents_apart_predict_all_but_their_first_tokens(lengths, max_length, budget):
    store = store_of(lengths)
    one_pass = np.concatenate([document[1:] for document in store])
    blocks = PackedBlocks(store, max_length, budget, cross_document_attention=False)
    expected = one_pass if budget is None else np.tile(one_pass, budget)[:budget]
    np.testing.assert_array_equal(predicted(blocks), expected)
    check_documents(blocks, store)
    begins = set(store.starts.tolist())
    for i in range(len(blocks)):
        position = -1
        for token, given_position in zip(blocks[i]["input_ids"], blocks[i]["position_ids"], strict=True):
            position = 0 if int(token) in begins else position + 1
            assert given_position == position


@given(DOCUMENTS.filter(lambda x: max(x) > 1), st.integers(2, 7), st.integers(1, 60))
def test_separate_documents_meet_a_token_budget_in_file_order(lengths, max_length, budget):
    store = store_of(lengths)
    one_pass = np.concatenate([document[:max_length][1:] for document in store])
    sequences = SeparateDocuments(store, max_length, budget)
    np.testing.assert_array_equal(predicted(sequences), np.tile(one_pass, budget)[:budget])
    np.testing.assert_array_equal(predicted(SeparateDocuments(store, max_length)), one_pass)
    check_documents(sequences, store)


@given(LONGER, st.data(), st.integers(2, 7), st.none() | st.integers(1, 30))
def test_of_separate_documents_only_what_is_learned_is_predicted(lengths, data, max_length, budget):
    store = store_of(lengths)
    size = len(store.tokens)
    learned = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    index = np.column_stack([store.starts, store.lengths, store.starts])
    one_pass = np.concatenate([d[:max_length][1:][learned[d[:max_length][1:]]] for d in store])
    if not len(one_pass):
        return
    sequences = SeparateDocuments(Corpus(store.tokens, index, learned, {}), max_length, budget)
    expected = one_pass if budget is None else np.tile(one_pass, budget)[:budget]
    np.testing.assert_array_equal(predicted(sequences), expected)
    check_documents(sequences, store)


@given(DOCUMENTS.filter(lambda x: sum(x) > 1), st.integers(1, 7))
def test_the_last_batch_is_filled_with_masked_rows(lengths, batch):
    blocks = PackedBlocks(store_of(lengths), 4)
    whole = Batches(blocks, batch)
    assert len(whole) % batch == 0 and 0 <= len(whole) - len(blocks) < batch
    for i in range(len(whole)):
        if i < len(blocks):
            np.testing.assert_array_equal(whole[i]["input_ids"], blocks[i]["input_ids"])
        else:
            assert (whole[i]["labels"] == IGNORED).all()


def test_a_batch_is_padded_and_masked():
    items = [{"input_ids": np.array([5, 6, 7]), "labels": np.array([IGNORED, 6, 7])}]
    items.append({"input_ids": np.array([8, 9]), "labels": np.array([IGNORED, 9])})
    batch = collate(items)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [IGNORED, 9, IGNORED]]
    flat = collate(items, flat=True)
    assert flat["input_ids"].tolist() == [[5, 6, 7, 8, 9]] and flat["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert flat["labels"].tolist() == [[IGNORED, 6, 7, IGNORED, 9]]


def blocks_of_documents():
    generator = np.random.default_rng(0)
    lengths = np.array([5, 12, 3, 9, 20, 2])
    store = TokenStore(generator.integers(0, VOCABULARY, lengths.sum()), np.cumsum(lengths) - lengths, lengths)
    blocks = PackedBlocks(store, 18, cross_document_attention=False)
    return [blocks[i] for i in range(len(blocks))]


def token_losses(model, batch):
    logits = model(**{name: value for name, value in batch.items() if name != "labels"}, use_cache=False).logits
    shifted = batch["labels"][:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), shifted.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses[shifted.flatten() != IGNORED]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_losses_of_a_packed_batch_are_those_of_each_document_alone(name, flat, attention):
    items = blocks_of_documents()
    model = random_model(name)
    model.set_attn_implementation(attention)
    alone = []
    for item in items:  # oracle: every part of a block in a batch of its own, positions from 0
        cuts = [*np.flatnonzero(item["position_ids"] == 0), len(item["input_ids"])]
        for start, stop in itertools.pairwise(cuts):
            part = {key: item[key][start:stop] for key in ("input_ids", "labels")}
            alone.append(token_losses(model, collate([part])))
    with torch.no_grad():
        packed = token_losses(model, collate(items, flat))
    tolerance = 1e-10 if attention == "sdpa" else 1e-6  # eager attention takes its softmax in float32
    torch.testing.assert_close(packed, torch.cat(alone).detach(), rtol=tolerance, atol=tolerance)


def test_a_model_that_mixes_documents_is_refused():
    model = random_model("llama-untied", torch.float32)
    check_apart(model, torch.float32)
    forward = model.forward
    model.forward = lambda input_ids, position_ids, use_cache: forward(input_ids)
    with pytest.raises(UserError, match="cannot keep documents apart"):
        check_apart(model, torch.float32)


def test_flash_attention_finds_the_documents_of_a_flat_batch():
    """What transformers hands to the varlen kernels: the bounds of every part of every block, and no others."""
    items = blocks_of_documents()
    positions = collate(items, flat=True)["position_ids"]
    assert _is_packed_sequence(positions, batch_size=1)
    bounds = [0]
    for item in items:
        cuts = [*np.flatnonzero(item["position_ids"] == 0), len(item["input_ids"])]
        bounds += [bounds[-1] + int(stop) for stop in cuts[1:]]
    (queries, keys), (longest, _) = prepare_fa_kwargs_from_position_ids(positions)
    assert queries.tolist() == keys.tolist() == bounds
    assert int(longest) == max(np.diff(bounds))
