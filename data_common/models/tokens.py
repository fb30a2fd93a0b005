"""Text to tokens in a memory-mapped store, and from there to batches.

A document is BOS (where the tokenizer has one) + the tokens of its text + EOS; the tokenizers of encoders have CLS
and SEP instead. Scoring, training and evaluation all take their tokens from here, so they agree on what a sample is.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from data_common.calls.progress import Progress
from data_common.files.temporary import told_of_temporary
from data_common.messages.errors import UserError

IGNORED = -100  # label of a position that is not trained or scored
ENCODE_BATCH = 256  # texts given to the tokenizer at a time


class TokenStore:
    """Documents as token ids in one memory-mapped file; `store[i]` is document i, an array of (length,)."""

    def __init__(self, tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray):
        """tokens: (all,); starts, lengths: (n,), first token and number of tokens of each document."""
        self.tokens, self.starts, self.lengths = tokens, starts, lengths

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, document: int) -> np.ndarray:
        if document >= len(self):
            raise IndexError(document)  # ends iteration
        return self.tokens[self.starts[document] : self.starts[document] + self.lengths[document]]

    def take(self, documents: np.ndarray) -> "TokenStore":
        """Only these documents, over the same tokens."""
        return TokenStore(self.tokens, self.starts[documents], self.lengths[documents])


def memory_mapped(path: Path, kind: type) -> np.ndarray:
    """A file of numbers as an array, (n,); an empty file, which cannot be mapped, as an empty one."""
    return np.memmap(path, kind, mode="r") if path.stat().st_size else np.empty(0, kind)


def tokenize(texts: Iterable[str], tokenizer, name: str = "tokenizing") -> TokenStore:
    """Encode `texts` into an unnamed temporary file. name: of the progress bar."""
    dtype = token_type(tokenizer)
    lengths: list[int] = []
    with told_of_temporary(), Progress(desc=name, unit="text") as bar:
        file = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the mapping)
        for batch in batched(texts, ENCODE_BATCH):
            for document in encode(batch, tokenizer):
                file.write(np.asarray(document, dtype).tobytes())
                lengths.append(len(document))
            bar.update(len(batch))
        file.flush()
    lengths = np.array(lengths, np.int64)
    tokens = np.memmap(file, dtype, mode="r") if lengths.any() else np.empty(0, dtype)
    return TokenStore(tokens, np.cumsum(lengths) - lengths, lengths)


def encode(texts: Sequence[str], tokenizer) -> list[list[int]]:
    """Token ids of each text with `special_tokens` around it."""
    if not texts:  # which tokenizers refuse
        return []
    start, end = special_tokens(tokenizer)
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [start + ids + end for ids in encoded]


def special_tokens(tokenizer) -> tuple[list[int], list[int]]:
    """What stands before and after a text: BOS or CLS, EOS or SEP, each where the tokenizer has one."""
    starts = [tokenizer.bos_token_id, tokenizer.cls_token_id]
    ends = [tokenizer.eos_token_id, tokenizer.sep_token_id]
    return tuple([token for token in tokens if token is not None][:1] for tokens in (starts, ends))


def without_end(documents: TokenStore, tokenizer) -> TokenStore:
    """Documents without the EOS or SEP behind their text."""
    _, end = special_tokens(tokenizer)
    return TokenStore(documents.tokens, documents.starts, documents.lengths - len(end))


def id_count(tokenizer) -> int:
    """One more than the highest token id: a vocabulary with holes has fewer tokens."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def embedding_count(model) -> int:
    """For how many tokens the model has embeddings."""
    try:
        return model.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError):  # of code that comes with a model
        return model.config.vocab_size


def check_ids(documents: TokenStore, tokenizer, model, what: str = "text") -> None:
    """Raises UserError where one of the documents holds a token for which the model has no embedding."""
    rows = embedding_count(model)
    for number, document in enumerate(documents if id_count(tokenizer) > rows else ()):
        if len(document) and document.max() >= rows:
            token = tokenizer.convert_ids_to_tokens(int(document.max()))
            raise UserError(
                f"{what} {number + 1} holds the token {token}, of which the model has no embedding: tokenizer and "
                f"model do not fit ({id_count(tokenizer)} tokens, {rows} embeddings)"
            )


def token_type(tokenizer) -> type:
    """The smallest integer type that holds every token id."""
    return np.uint16 if id_count(tokenizer) <= 2**16 else np.uint32


def windows(documents: TokenStore, max_length: int, overlap: int) -> tuple[TokenStore, np.ndarray]:
    """Cut every document into windows of at most `max_length` tokens, neighbours sharing `overlap` tokens.

    With an overlap of 1, every token but the first of a document is predicted exactly once. A document of two tokens or
    more has a window, be the overlap ever so long.
    -> (windows, document of each window).
    """
    step = max_length - overlap
    counts = np.maximum(-(-np.maximum(documents.lengths - overlap, 0) // step), documents.lengths > 1)
    document = np.repeat(np.arange(len(documents)), counts)
    offset = step * (np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts))
    lengths = np.minimum(max_length, documents.lengths[document] - offset)
    return TokenStore(documents.tokens, documents.starts[document] + offset, lengths), document


def token_budget_batches(lengths: np.ndarray, batch_tokens: int, mixed: bool = True) -> list[np.ndarray]:
    """Group documents of similar length: count times longest of a batch stays within `batch_tokens`.

    A document longer than the budget is a batch of its own. The grouping depends on the lengths alone.
    lengths: (n,). mixed: else all documents of a batch have the same length. -> list of arrays of document numbers.
    """
    batches, first = [], 0
    by_length = np.argsort(lengths, kind="stable")
    for stop in range(1, len(by_length) + 1):
        end = stop == len(by_length)
        full = not end and (stop + 1 - first) * lengths[by_length[stop]] > batch_tokens
        other = not (end or mixed) and lengths[by_length[stop]] > lengths[by_length[first]]
        if full or other or end:
            batches.append(by_length[first:stop])
            first = stop
    return batches


def pad(documents: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Stack documents, padded on the right. -> (input ids, labels), both (batch, longest), labels IGNORED on padding.

    With causal attention no real token sees the padding behind it, so no attention mask is needed.
    """
    longest = max(map(len, documents))
    ids = np.zeros((len(documents), longest), np.int64)
    labels = np.full((len(documents), longest), IGNORED, np.int64)
    for row, document in enumerate(documents):
        ids[row, : len(document)] = labels[row, : len(document)] = document
    return ids, labels


def batched(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
