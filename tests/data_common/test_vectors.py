"""Vectors of texts: against transformers one text at a time, found again by the text, whatever is killed."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as token_models
from transformers import AutoModel

from data_common.calls.stage import REPOSITORY
from data_common.messages.errors import UserError
from data_common.vectors import embedding, store
from data_common.vectors.embedding import EmbeddingSpace, vectors
from data_common.vectors.language_model import pooling_weights
from data_common.vectors.settings import Embedder
from data_common.vectors.store import VectorStore, text_hashes
from tests.models import byte_tokenizer, encoder_tokenizer, save_encoder, save_model

POOLINGS = ["mean", "position-weighted", "last", "cls"]
CPU = {"device": "cpu", "embedding_max_length": 48}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/vectors"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_encoder(folder / "encoder")
    save_model(folder / "causal")
    save_table(folder / "static")
    return folder


def corpus(count, seed=0):
    generator = np.random.default_rng(seed)
    return [
        " ".join(generator.choice(["ab", "c", "def", "é", "日本"], generator.integers(1, 12))) for _ in range(count)
    ]


def distinct(count):
    return [f"{text} {number}" for number, text in enumerate(corpus(count))]


def save_table(folder):
    folder.mkdir()
    tokenizer = Tokenizer(token_models.WordLevel({"[UNK]": 0, "ab": 1, "c": 2, "def": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    save_file({"embeddings": table}, folder / "model.safetensors")
    return table


def one_by_one(folder, text, pooling):
    """The vector of a text by transformers, in float64, pooled by hand."""
    is_encoder = folder.name == "encoder"
    tokenizer = encoder_tokenizer() if is_encoder else byte_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = [257, *ids[:46], 258] if is_encoder else [256, *ids[:47]]
    model = AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        states = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    places = np.arange(1, len(ids) + 1)
    weights = {"mean": places**0, "position-weighted": places, "last": places == len(ids), "cls": places == 1}[pooling]
    pooled = sum(weight * state for weight, state in zip(weights, states, strict=True))
    return pooled / np.linalg.norm(pooled)


@pytest.mark.parametrize("name", ["encoder", "causal"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_vectors_are_those_of_one_text_at_a_time(models, name, pooling, batch_tokens):
    texts = [*corpus(12), "long " * 40, "a"]
    keys = CPU | {"pooling": pooling, "embedding_batch_tokens": batch_tokens}
    settings = Embedder(embedder=str(models / name), **keys)
    if (name, pooling) == ("causal", "cls"):
        with pytest.raises(UserError, match=r"pooling=cls: .* is a causal model"):
            vectors(texts, settings)
        return
    found = vectors(texts, settings)
    assert found.dtype == np.float16 and isinstance(found, np.memmap)
    expected = [one_by_one(models / name, text, pooling) for text in texts]
    np.testing.assert_allclose(found, expected, atol=1e-3)  # float16


def test_weights_of_three_tokens_by_hand():
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    weighted = pooling_weights(mask, "position-weighted").tolist()
    assert weighted == [[pytest.approx(share) for share in (1 / 6, 1 / 3, 1 / 2, 0)], [1, 0, 0, 0]]
    assert pooling_weights(mask, "mean").tolist()[0] == [pytest.approx(share) for share in (1 / 3, 1 / 3, 1 / 3, 0)]
    assert pooling_weights(mask, "last").tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert pooling_weights(mask, "cls").tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("name", ["encoder", "causal", "static", "tfidf"])
def test_a_shuffled_copy_finds_all_and_equal_texts_are_equal(models, name):
    settings = Embedder(embedder=name if name == "tfidf" else str(models / name), **CPU)
    texts = [text for text in corpus(40) if "ab" in text]
    texts += texts[:3]
    distinct = len(set(texts))
    first = EmbeddingSpace(settings, texts)
    found = first.vectors(texts)
    assert first.facts == {"found": 0, "computed": distinct}
    np.testing.assert_array_equal(found[-3:], found[:3])
    np.testing.assert_allclose(np.linalg.norm(found.astype(np.float32), axis=1), 1, atol=2e-3)
    order = np.random.default_rng(1).permutation(len(texts))
    again = EmbeddingSpace(settings, [texts[row] for row in order])
    np.testing.assert_array_equal(again.vectors(again.corpus), found[order])
    assert again.facts == {"found": distinct, "computed": 0}


def test_what_is_found_loads_no_model(models, monkeypatch):
    settings = Embedder(embedder=str(models / "encoder"), **CPU)
    vectors(corpus(5), settings)
    monkeypatch.setattr(EmbeddingSpace, "_embed", property(lambda self: pytest.fail("the embedder was loaded")))
    vectors(corpus(5)[::-1], settings)


def test_new_texts_only_are_computed(models):
    settings = Embedder(embedder=str(models / "encoder"), **CPU)
    vectors(distinct(5), settings)
    more = EmbeddingSpace(settings, [*distinct(5), "a new one"])
    found = more.vectors(more.corpus)
    assert more.facts == {"found": 5, "computed": 1}
    np.testing.assert_allclose(found[-1], one_by_one(models / "encoder", "a new one", "mean"), atol=1e-3)


@pytest.mark.parametrize(
    "other",
    [{"pooling": "last"}, {"embedding_max_length": 32}, {"dtype": "float64"}, {"special_tokens_in_text": "tokens"}],
)
def test_other_settings_have_vectors_of_their_own(models, other):
    keys = CPU | {"embedder": str(models / "encoder"), "dtype": "float32"}
    vectors(distinct(5), Embedder(**keys))
    space = EmbeddingSpace(Embedder(**keys | other), distinct(5))
    space.vectors(space.corpus)
    assert space.facts["found"] == 0


def test_machine_keys_do_not_matter_and_weights_do(models, tmp_path):
    save_model(tmp_path / "model")
    settings = Embedder(embedder=str(tmp_path / "model"), **CPU)
    before = np.array(vectors(distinct(5), settings))
    (tmp_path / "model").rename(tmp_path / "moved")
    space = EmbeddingSpace(Embedder(embedder=str(tmp_path / "moved"), embedding_batch_tokens=7, **CPU), distinct(5))
    np.testing.assert_array_equal(space.vectors(space.corpus), before)
    assert space.facts == {"found": 5, "computed": 0}
    save_model(tmp_path / "model", seed=1)
    assert not np.allclose(vectors(distinct(5), settings), before, atol=0.01)


def test_a_static_table_is_the_mean_of_its_tokens(tmp_path):
    table = save_table(tmp_path / "static")
    settings = Embedder(embedder=str(tmp_path / "static"), embedding_max_length=4)
    found = vectors(["ab c", "def", "ab é é é def", "é"], settings)
    for vector, expected in zip(found, [table[1] + table[2], table[3], table[1]], strict=False):
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-3)
    assert np.isnan(found[3]).all()  # no token that is known


def test_a_table_of_a_reduced_vocabulary(tmp_path):
    table = save_table(tmp_path / "static")
    mapping, weights = np.array([0, 2, 2, 1]), np.array([1, 1, 0.5, 2], np.float32)
    save_file({"embeddings": table[:3], "mapping": mapping, "weights": weights}, tmp_path / "static/model.safetensors")
    (tmp_path / "static/config.json").write_text('{"model_type": "model2vec"}')
    found = vectors(["ab c def"], Embedder(embedder=str(tmp_path / "static")))
    expected = 1.5 * table[2] + 2 * table[1]
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), atol=1e-3)


def test_tfidf_is_scikit_learn():
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = list(dict.fromkeys(corpus(50)))
    found = vectors([*texts, "zzz"][: len(texts)], Embedder(embedding_dimensions=4))
    counts = TfidfVectorizer(token_pattern=r"[日本]|[^\W日本]+", sublinear_tf=True).fit_transform(texts)
    reduced = TruncatedSVD(4, algorithm="arpack").fit_transform(counts)
    reduced /= np.linalg.norm(reduced, axis=1, keepdims=True)
    np.testing.assert_allclose(found.astype(np.float32) @ found.T.astype(np.float32), reduced @ reduced.T, atol=5e-3)


def test_tfidf_belongs_to_its_corpus():
    space = EmbeddingSpace(Embedder(), ["some words", "other words"])
    own, targets = space.vectors(space.corpus), space.vectors(["some other", "unknown"])
    assert own.shape == (2, 3) and np.isnan(targets[1]).all() and not np.isnan(targets[0]).any()
    again = EmbeddingSpace(Embedder(), ["other words", "some words"])
    np.testing.assert_array_equal(again.vectors(["some other"]), targets[:1])
    assert again.facts == {"found": 1, "computed": 0}
    other = EmbeddingSpace(Embedder(), ["other words", "some words", "more"])
    other.vectors(["some other"])
    assert other.facts == {"found": 0, "computed": 1}


@pytest.mark.parametrize("texts", [["one"], ["one", "one"], ["a b", "c"]])
def test_tfidf_of_few_texts(texts):
    found = vectors(texts, Embedder())
    assert found.shape == (len(texts), found.shape[1]) and np.isfinite(found).all()


def test_texts_without_a_token_have_no_vector(models):
    found = vectors(["", "ab"], Embedder(embedder=str(models / "encoder"), **CPU))
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()


def test_no_texts(models):
    assert vectors([], Embedder(embedder=str(models / "encoder"), **CPU)).shape == (0, 16)


def broken_model(folder):
    save_encoder(folder)
    model = AutoModel.from_pretrained(folder)
    torch.nn.init.constant_(model.encoder.layer[1].output.dense.bias, torch.nan)
    model.save_pretrained(folder)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"embedder": "no/such/folder"}, "no model folder no/such/folder"),
        ({"embedder": "no/such"}, "no/such"),
        ({"embedding_max_length": 512}, "embedding_max_length=512 is more than the 64 positions"),
        ({"device": "gpu"}, "device gpu cannot be used"),
        ({"embedder": "BROKEN"}, "gives vectors that are no finite numbers"),
        ({"embedder": "EMPTY"}, "cannot load the tokenizer"),
        ({"embedder": "TABLE"}, "cannot load the vectors of"),
    ],
)
def test_what_the_user_can_cure(models, tmp_path, keys, message):
    (tmp_path / "EMPTY").mkdir()
    save_table(tmp_path / "TABLE")
    (tmp_path / "TABLE/model.safetensors").write_bytes(b"no weights")
    broken_model(tmp_path / "BROKEN")
    keys = {"embedder": str(models / "encoder")} | CPU | keys
    if keys["embedder"].isupper():
        keys["embedder"] = str(tmp_path / keys["embedder"])
    with pytest.raises(UserError, match=message) as raised:
        vectors(["ab"], Embedder(**keys))
    assert "\n" not in str(raised.value)
    if "finite" not in message:  # known without weights
        with pytest.raises(UserError, match=message):
            Embedder(**keys).check()


def test_a_cache_that_cannot_be_written_is_named(models, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot keep vectors in .*Not a directory \(DELT_CACHE moves it\)"):
        vectors(["ab"], Embedder(embedder=str(models / "static")))


def test_a_note_where_a_sentence_encoder_was_trained_with_another_pooling(tmp_path, capsys):
    save_encoder(tmp_path / "encoder")
    (tmp_path / "encoder/1_Pooling").mkdir()
    facts = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (tmp_path / "encoder/1_Pooling/config.json").write_text(json.dumps(facts))
    vectors(["ab"], Embedder(embedder=str(tmp_path / "encoder"), **CPU))
    assert "was trained with pooling=cls; pooling=mean is taken" in capsys.readouterr().out
    vectors(["ab"], Embedder(embedder=str(tmp_path / "encoder"), pooling="cls", **CPU))
    assert "was trained" not in capsys.readouterr().out


# The store


def fill(key, texts, width=3):
    values = np.arange(len(texts) * width, dtype=np.float16).reshape(-1, width)
    VectorStore(key).add(text_hashes(texts), values)
    return values


def kept(key, texts, width=3):
    wanted = embedding.Wanted(text_hashes(texts))
    wanted.open(width)
    wanted.take(VectorStore(key))
    return wanted.vectors, ~wanted.missing


def test_what_is_added_is_found_by_its_key_and_text():
    values = fill("k", ["a", "b", "c"])
    found, there = kept("k", ["c", "x", "a"])
    assert there.tolist() == [True, False, True]
    np.testing.assert_array_equal(found[[0, 2]], values[[2, 0]])
    assert VectorStore("k").width() == 3
    assert VectorStore("other").width() is None


@pytest.mark.parametrize("damage", ["flipped", "zeros", "cut", "tail"])
def test_a_damaged_vector_counts_as_missing_and_is_replaced(cache, damage):
    fill("k", ["a", "b", "c"])
    [folder] = cache.glob("k-*")
    file = folder / "vectors.bin"
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[-1] ^= 1
    elif damage == "zeros":
        content[-6:] = bytes(6)
    elif damage == "cut":
        del content[-2:]
    file.write_bytes(content + (b"abc" if damage == "tail" else b""))
    there = kept("k", ["a", "b", "c"])[1]
    assert there.tolist() == [True, True, damage == "tail"]
    VectorStore("k").add(text_hashes(["c"]), np.array([[7, 8, 9]], np.float16))
    found, there = kept("k", ["a", "b", "c"])
    assert there.all()
    assert found.tolist()[:2] == [[0, 1, 2], [3, 4, 5]]
    assert found.tolist()[2] == ([6, 7, 8] if damage == "tail" else [7, 8, 9])


def test_a_full_folder_is_followed_by_another_and_the_oldest_goes(cache, monkeypatch):
    monkeypatch.setattr(store, "FOLDER_BYTES", 12)
    for number in range(4):
        fill("k", [str(2 * number), str(2 * number + 1)])
    folders = sorted(cache.glob("k-3-*"))
    assert [folder.name for folder in folders] == [f"k-3-{number:05}" for number in range(4)]
    assert kept("k", [str(number) for number in range(8)])[1].all()
    for age, folder in enumerate(folders):
        os.utime(folder, (1000 - age, 1000 - age))
    monkeypatch.setattr(store, "LIMIT", sum(file.stat().st_size for file in cache.glob("*/*")) - 1)
    fill("k", ["new"])
    assert kept("k", ["0", "6", "new"])[1].tolist() == [True, False, True]


PROGRAM = """
import json, os, signal, sys
from data_common.vectors import store
from data_common.vectors.embedding import EmbeddingSpace
from data_common.vectors.settings import Embedder
model, count, kill = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
calls, flush = [], store.flush
def flush_or_die(path):
    calls.append(path)
    if len(calls) == kill:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(path)
store.flush = flush_or_die
texts = [f"text number {number}" for number in range(count)]
settings = Embedder(embedder=model, embedding_max_length=16, embedding_batch_tokens=64, device="cpu")
space = EmbeddingSpace(settings, texts)
found = space.vectors(texts)
sys.stderr.write(json.dumps(space.facts | {"sum": found.astype(float).sum(1).tolist(), "added": len(calls) // 2}))
"""


def start(model, count=1000, kill=0, **environment):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)} | environment
    command = [sys.executable, "-c", PROGRAM, str(model), str(count), str(kill)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def facts_of(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(errors[errors.index("{") :])


def test_a_killed_run_is_gone_on_with(models, cache, monkeypatch):
    """Killed behind the second part, whose records are not written: 256 of 1,000 texts are there."""
    killed = start(models / "encoder", kill=3)
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    resumed = facts_of(start(models / "encoder"))
    assert (resumed["found"], resumed["computed"]) == (256, 744)
    monkeypatch.setenv("DELT_CACHE", str(cache.parent / "fresh"))
    assert resumed["sum"] == facts_of(start(models / "encoder"))["sum"]  # to the last bit


def test_two_processes_share_the_work(models, cache):
    processes = [start(models / "encoder", count=2000, kill=0) for _ in range(2)]
    one, other = map(facts_of, processes)
    assert one["sum"] == other["sum"]
    assert one["added"] + other["added"] == 8  # parts of 256 texts, each computed once
    [folder] = cache.glob("*-16-*")
    assert (folder / "records.bin").stat().st_size == 2000 * store.RECORD.itemsize
    assert not list(cache.glob(".*.lock"))
