"""Samples on disk: what they hold against `encode`, and that an interrupted write goes on to the same bytes."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as token_models
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from data_common.messages.errors import UserError
from data_common.models import samples
from data_common.models.samples import load_samples, write_samples
from data_common.models.tokens import encode
from tests.models import byte_tokenizer

TEXTS = [
    "the cat sat on the mat",
    "",
    "naïve café 😀!",
    "x",
    "  two  spaces ",
    "日本語のテキスト",
    "the end of the text",
]
VOCABULARY = 280  # 256 bytes, BOS, EOS, 22 merges


def bpe_tokenizer():
    """Merges across words too, so that a part of a text that ends where tokens end has those very tokens."""
    tokenizer = Tokenizer(token_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY  # it did learn merges
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def word_tokenizer(size):
    """One token a word, w0 w1 ...; no special tokens."""
    tokenizer = Tokenizer(token_models.WordLevel({f"w{number}": number for number in range(size)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


TOKENIZERS = {"bytes": byte_tokenizer(), "bpe": bpe_tokenizer()}
each_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


def write(folder, texts=TEXTS, tokenizer=TOKENIZERS["bpe"], max_length=4, long_rows="mean"):
    write_samples(folder, texts, tokenizer, max_length, long_rows, len(texts), "writing")
    return load_samples(folder, tokenizer)


def contents(folder):
    return [(folder / name).read_bytes() for name in ("tokens.bin", "index.bin")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One to write to again and again."""
    return tmp_path_factory.mktemp("samples") / "again"


def fresh(folder):
    for file in folder.glob("*"):
        file.unlink()
    return folder


@each_tokenizer
@pytest.mark.parametrize("max_length", [1, 2, 5, 1000])
def test_cut_keeps_the_first_sample_of_each_row(tokenizer, max_length, tmp_path):
    written = write(tmp_path / "new", TEXTS, tokenizer, max_length, "cut")
    wanted = [document[:max_length] for document in encode(TEXTS, tokenizer)]
    assert [sample.tolist() for sample in written] == wanted
    assert written.lengths.tolist() == [len(sample) for sample in wanted]
    assert written.rows.tolist() == list(range(len(TEXTS)))
    assert written.tokens.tolist() == joined(wanted)  # nothing is kept that no sample holds


@each_tokenizer
@pytest.mark.parametrize("max_length", [1, 2, 5, 1000])
def test_mean_keeps_all_samples_of_each_row(tokenizer, max_length, tmp_path):
    written = write(tmp_path / "new", TEXTS, tokenizer, max_length, "mean")
    documents = encode(TEXTS, tokenizer)
    wanted = [(row, part) for row, ids in enumerate(documents) for part in parts(ids, max_length)]
    assert [(row, sample.tolist()) for row, sample in zip(written.rows, written, strict=True)] == wanted
    assert written.tokens.tolist() == joined(documents)


def joined(lists):
    return list(itertools.chain.from_iterable(lists))


def parts(ids, size):
    return [ids[first : first + size] for first in range(0, len(ids), size)]


@each_tokenizer
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=25), max_size=6), max_length=st.integers(1, 9))
def test_the_samples_of_a_row_are_its_encoding(tokenizer, texts, max_length, folder):
    written = write(fresh(folder), texts, tokenizer, max_length, "mean")
    assert (np.diff(written.rows) >= 0).all()
    for row, ids in enumerate(encode(texts, tokenizer) if texts else []):
        own = np.flatnonzero(written.rows == row)
        assert np.concatenate([written[i] for i in own]).tolist() == ids
        assert (written.lengths[own[:-1]] == max_length).all() and 0 < written.lengths[own[-1]] <= max_length


@each_tokenizer
@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text("abtes hé日😀\n", max_size=25) | st.text(max_size=25), min_size=1, max_size=4),
    max_length=st.integers(1, 9),
    long_rows=st.sampled_from(["cut", "mean"]),
)
def test_spans_end_at_the_character_that_a_cut_falls_into(tokenizer, texts, max_length, long_rows, folder):
    """Counted in bytes, from the spelling of the tokens: a character split by a cut belongs to the later sample."""
    written = write(fresh(folder), texts, tokenizer, max_length, long_rows)
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    for row, text in enumerate(texts):
        at, own = 0, np.flatnonzero(written.rows == row)
        for sample, (first, end) in zip([written[i] for i in own], written.spans[own], strict=True):
            assert first == len(text.encode()[:at].decode(errors="ignore"))
            at += sum(len(piece) for piece in tokenizer.convert_ids_to_tokens([t for t in sample if t not in special]))
            assert end == len(text.encode()[:at].decode(errors="ignore"))


@each_tokenizer
@settings(max_examples=60, deadline=None)
@given(text=st.text("abc the.", min_size=1, max_size=40), max_length=st.integers(1, 9))
def test_the_text_of_a_span_has_the_tokens_of_its_sample(tokenizer, text, max_length, folder):
    written = write(fresh(folder), [text], tokenizer, max_length, "mean")
    whole = [tokenizer.bos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    assert joined(written) == whole
    for sample, (first, end) in zip(written, written.spans, strict=True):
        inside = [token for token in sample.tolist() if token not in (whole[0], whole[-1])]
        assert tokenizer(text[first:end])["input_ids"] == inside


def test_a_character_over_a_cut(tmp_path):
    written = write(
        tmp_path / "new", ["aé😀b"], byte_tokenizer(), 3, "mean"
    )  # <s> a é1 | é2 😀1 😀2 | 😀3 😀4 b | </s>
    assert written.spans.tolist() == [[0, 1], [1, 2], [2, 4], [4, 4]]
    assert [len(sample) for sample in written] == [3, 3, 3, 1]


@pytest.mark.parametrize(("size", "kind"), [(2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_the_token_type_follows_from_the_vocabulary(size, kind, tmp_path):
    written = write(tmp_path / "new", [f"w1 w{size - 1} w2"], word_tokenizer(size), 8, "cut")
    assert written.tokens.dtype == kind and written[0].tolist() == [1, size - 1, 2]
    assert (tmp_path / "new/tokens.bin").stat().st_size == 3 * np.dtype(kind).itemsize


def test_a_row_without_tokens_is_an_empty_sample(tmp_path):
    written = write(tmp_path / "new", ["  w1", " ", "w2"], word_tokenizer(9), 8, "mean")
    assert [sample.tolist() for sample in written] == [[1], [], [2]]
    assert written.rows.tolist() == [0, 1, 2] and written.spans[0].tolist() == [0, 4]  # with what precedes a token


@pytest.mark.parametrize("texts", [[], [""]])
def test_nothing_to_write(texts, tmp_path):
    written = write(tmp_path / "new", texts, word_tokenizer(9))
    assert len(written) == len(texts) and len(written.tokens) == 0


def test_take_keeps_rows_spans_and_tokens_together(tmp_path):
    written = write(tmp_path / "new")
    chosen = np.array([7, 0, 3, 7])
    taken = written.take(chosen)
    assert [sample.tolist() for sample in taken] == [written[i].tolist() for i in chosen]
    for name in ("rows", "spans", "lengths"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(written, name)[chosen])
    assert taken.take(np.array([2]))[0].tolist() == written[3].tolist()
    assert len(written.take(np.array([], int))) == 0


def write_again(folder, tokens, index, **options):
    """Files with these bytes, resumed."""
    (folder / "tokens.bin").write_bytes(tokens)
    (folder / "index.bin").write_bytes(index)
    write(folder, **options)
    return contents(folder)


@pytest.mark.parametrize("long_rows", ["cut", "mean"])
@pytest.mark.parametrize("batch", [1, 3, 256])
def test_an_interrupted_write_goes_on_wherever_it_was_cut(long_rows, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "ENCODE_BATCH", batch)
    folder = tmp_path / "new"
    write(folder, long_rows=long_rows)
    tokens, index = whole = contents(folder)
    generator = random.Random(batch)
    some = [(generator.randint(0, len(tokens)), generator.randint(0, len(index))) for _ in range(60)]
    only_tokens = [(cut, len(index)) for cut in range(0, len(tokens), 5)]  # the index is ahead of the tokens
    only_index = [(len(tokens), cut) for cut in range(0, len(index), 17)]  # and behind them, in half an entry
    entries = [(len(tokens) * i * 40 // len(index), i * 40) for i in range(len(index) // 40 + 1)]
    for kept, entered in [*some, *only_tokens, *only_index, *entries, (0, 0), (len(tokens), len(index))]:
        assert write_again(folder, tokens[:kept], index[:entered], long_rows=long_rows) == whole, (kept, entered)


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.text("abé ", max_size=9), max_size=6),
    tokenizer=st.sampled_from([byte_tokenizer(), word_tokenizer(9), word_tokenizer(2**16 + 1)]),
    max_length=st.integers(1, 5),
    long_rows=st.sampled_from(["cut", "mean"]),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_texts_cut_anywhere(texts, tokenizer, max_length, long_rows, cuts, folder):
    options = {"texts": texts, "tokenizer": tokenizer, "max_length": max_length, "long_rows": long_rows}
    write(fresh(folder), **options)
    whole = contents(folder)
    left = [content[: round(cut * len(content))] for content, cut in zip(whole, cuts, strict=True)]
    assert write_again(folder, *left, **options) == whole


@pytest.mark.parametrize("missing", ["tokens.bin", "index.bin"])
def test_one_file_missing(missing, tmp_path):
    folder = tmp_path / "new"
    write(folder)
    whole = contents(folder)
    (folder / missing).unlink()
    write(folder)
    assert contents(folder) == whole


@pytest.mark.parametrize("long_rows", ["cut", "mean"])
@pytest.mark.parametrize("after", range(len(TEXTS)))
def test_texts_that_stop_half_way(after, long_rows, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "ENCODE_BATCH", 2)
    write(tmp_path / "whole", long_rows=long_rows)

    def killed():
        yield from TEXTS[:after]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_samples(tmp_path / "new", killed(), TOKENIZERS["bpe"], 4, long_rows, len(TEXTS), "writing")
    read = []
    again = (read.append(text) or text for text in TEXTS)
    write_samples(tmp_path / "new", again, TOKENIZERS["bpe"], 4, long_rows, len(TEXTS), "writing")
    assert contents(tmp_path / "new") == contents(tmp_path / "whole")
    assert read == TEXTS


def test_what_is_there_is_not_encoded_again(tmp_path, monkeypatch):
    write(tmp_path / "new")
    encoded = []
    encode_texts = samples._encode
    monkeypatch.setattr(samples, "_encode", lambda texts, *rest: encoded.extend(texts) or encode_texts(texts, *rest))
    write(tmp_path / "new")
    assert encoded == TEXTS[-1:]  # only of the last row can it not be known whether it is whole


@pytest.mark.parametrize("full", ["tokens.bin", "index.bin"])
def test_a_full_disk_is_an_error_of_one_line_and_can_be_gone_on_from(full, tmp_path, monkeypatch):
    write(tmp_path / "whole")

    def open_on_full_disk(path, mode):
        return open("/dev/full" if path.name == full else path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(samples, "open", open_on_full_disk, raising=False)
        with pytest.raises(UserError, match=r"cannot write .*new: No space left on device") as error:
            write(tmp_path / "new")
    assert "\n" not in str(error.value)
    write(tmp_path / "new")
    assert contents(tmp_path / "new") == contents(tmp_path / "whole")


def test_the_texts_failing_is_not_said_of_the_folder(tmp_path):
    """An input that cannot be read is not an output that cannot be written."""

    def unreadable():
        yield TEXTS[0]
        raise OSError(5, "Input/output error", "corpus.jsonl")

    with pytest.raises(OSError, match=r"corpus\.jsonl"):
        write_samples(tmp_path / "new", unreadable(), TOKENIZERS["bpe"], 4, "mean", 2, "writing")


def test_entries_follow_each_other_without_gaps(tmp_path):
    written = write(tmp_path / "new", TEXTS * 50)  # more than one batch
    assert written.starts.tolist() == [0, *itertools.accumulate(written.lengths.tolist())][:-1]
