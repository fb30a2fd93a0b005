"""Token stores that are kept: the same tokens in the same order, made once, whole or not at all."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data_common.files import contents
from data_common.files.manifest import fingerprint
from data_common.messages.errors import UserError
from data_common.models import token_cache
from data_common.models.token_cache import Document, cached_corpus, tokenizer_identity
from data_common.rows.jsonl import open_source
from tests.models import byte_tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


@pytest.fixture
def path(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "x"}\n')
    return tmp_path / "in.jsonl"


def corpus(path, documents, reading=None, tokenizer=None):
    with open_source(str(path)) as source:
        return cached_corpus(source, [fingerprint(path)], tokenizer or byte_tokenizer(), reading or {}, documents)


def test_a_store_is_written_once_and_mapped_after_that(path, cache):
    calls = []

    def documents(facts):
        calls.append(1)
        facts["rows"] = 2
        return [Document(0, [256, 1, 257]), Document(14, [256, 2, 3, 257])]

    for _ in range(2):
        store = corpus(path, documents)
        assert [document.tolist() for document in store] == [[256, 1, 257], [256, 2, 3, 257]]
        assert store.tokens.dtype == np.uint16 and isinstance(store.tokens, np.memmap)
        assert store.offsets.tolist() == [0, 14] and store.loss_mask is None and store.facts == {"rows": 2}
    assert len(calls) == 1
    assert len(list(cache.iterdir())) == 1


def test_runs_that_ask_together_get_the_store_of_the_one_that_works(path, cache):
    calls = []

    def documents(facts):
        calls.append(1)
        time.sleep(0.2)  # the others open the lock meanwhile
        return [Document(0, [1, 2])]

    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: corpus(path, documents), range(4)))
    assert [store.tokens.tolist() for store in stores] == [[1, 2]] * 4
    assert len(calls) == 1
    assert len(list(cache.iterdir())) == 1


def test_what_the_tokens_depend_on_makes_another_store(path, cache):
    def documents(facts):
        return [Document(0, [1, 2])]

    corpus(path, documents)
    corpus(path, documents, {"max_rows": 1})
    other = byte_tokenizer()
    other.chat_template = "{{ messages }}"
    corpus(path, documents, tokenizer=other)
    path.write_text('{"text": "y"}\n')
    corpus(path, documents)
    assert len(list(cache.iterdir())) == 4


def test_learned_tokens_are_kept(path):
    store = corpus(path, lambda facts: [Document(0, [1, 2], [False, True]), Document(5, [3], [True])])
    assert store.loss_mask.tolist() == [False, True, True] and store.loss_mask.dtype == bool


def test_no_documents_give_an_empty_store(path):
    assert len(corpus(path, lambda facts: [])) == 0


def test_a_bad_row_leaves_nothing_behind(path, cache):
    def documents(facts):
        yield Document(0, [1])
        raise UserError("in.jsonl:2: broken")

    with pytest.raises(UserError, match="broken"):
        corpus(path, documents)
    assert not [entry for entry in cache.iterdir() if not entry.name.endswith(".lock")]
    assert len(corpus(path, lambda facts: [Document(0, [1])])) == 1


def zeroed(file):
    file.write_bytes(bytes(file.stat().st_size))


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("name", ["tokens.bin", "index.bin", "facts.json", "files.json"])
@pytest.mark.parametrize("damage", [zeroed, cut, os.remove])
def test_a_damaged_store_is_made_again(path, cache, capsys, name, damage):
    documents = lambda facts: [Document(0, [1, 2, 3]), Document(9, [4, 5])]  # noqa: E731
    corpus(path, documents)
    [entry] = cache.iterdir()
    damage(entry / name)
    assert [document.tolist() for document in corpus(path, documents)] == [[1, 2, 3], [4, 5]]
    assert f"made again: {name} is damaged" in capsys.readouterr().out
    assert len(list(cache.iterdir())) == 1
    corpus(path, documents)
    assert capsys.readouterr().out == ""


def test_a_store_is_not_read_as_a_whole_at_every_start(path, cache, monkeypatch):
    documents = lambda facts: [Document(0, [1, 2, 3])]  # noqa: E731
    corpus(path, documents)
    read, real = [], contents._digest
    monkeypatch.setattr(contents, "_digest", lambda files: read.extend(file for _, file in files) or real(files))
    corpus(path, documents)
    assert read == [path]  # the fingerprint of the source


def test_a_copied_store_is_the_same(path, cache, capsys):
    documents = lambda facts: [Document(0, [1, 2, 3])]  # noqa: E731
    corpus(path, documents)
    [entry] = cache.iterdir()
    shutil.copytree(entry, cache / "copy")
    shutil.rmtree(entry)
    os.rename(cache / "copy", entry)
    assert corpus(path, lambda facts: pytest.fail("it was made again")).tokens.tolist() == [1, 2, 3]


def test_a_source_that_changes_meanwhile_leaves_no_store(path, cache):
    def documents(facts):
        path.write_text('{"text": "another"}\n')
        return [Document(0, [1, 2])]

    with pytest.raises(UserError, match="was changed while it was read"):
        corpus(path, documents)
    assert list(cache.iterdir()) == []


def test_the_least_recently_used_store_goes_when_there_are_too_many(path, cache, monkeypatch):
    corpus(path, lambda facts: [Document(0, [1] * 100)], {"number": 1})
    [first] = cache.iterdir()
    os.utime(first, (1, 1))
    monkeypatch.setattr(token_cache, "LIMIT", 500)
    assert len(corpus(path, lambda facts: [Document(0, [2] * 100)], {"number": 2})) == 1
    assert not first.exists()


def test_a_cache_that_cannot_be_written_is_an_error(path, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot keep tokens in .*DELT_CACHE"):
        corpus(path, lambda facts: [])


def test_tokenizers_are_told_apart():
    assert tokenizer_identity(byte_tokenizer()) == tokenizer_identity(byte_tokenizer())
    larger = byte_tokenizer()
    larger.add_tokens(["<more>"])
    assert tokenizer_identity(larger) != tokenizer_identity(byte_tokenizer())
