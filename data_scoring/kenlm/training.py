"""Training an n-gram model in the work folder: tokenizer -> language_model.

tokenizer        sp.model    SentencePiece, trained on a sample of train_data
language_model   lm.arpa     modified Kneser-Ney estimates over all of train_data
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_common.calls.progress import Progress
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.models.tokens import batched
from data_common.parallel.processes import forked_map
from data_common.rows.jsonl import open_source
from data_common.rows.texts import Texts
from data_scoring.kenlm.arpa import write_arpa
from data_scoring.kenlm.estimator import BEGIN, END, SPECIAL, estimate
from data_scoring.kenlm.language_model import Files
from data_scoring.kenlm.tokenization import Sentences, sentencepiece, train_sentencepiece, words

BATCH = 256  # texts that a process tokenizes at a time
LEFT_OUT = {*SPECIAL, ""}  # what is no word, whatever the tokenizer says


def train(keys, work: WorkFolder) -> Files:
    """The model that the keys of a `Scorer` ask for, trained where it is not there. Raises: UserError for no text."""
    pieces, reads = keys.sentencepiece_model, ["train_data"]
    if keys.tokenizer == "sentencepiece" and pieces is None:
        pieces = _train_tokenizer(keys, work)
        reads.append("tokenizer")
    elif pieces is not None:
        reads.append("sentencepiece_model")

    def estimate_model(folder: Path) -> dict[str, Any]:
        sentences = keys.sentences(sentencepiece(pieces) if keys.tokenizer == "sentencepiece" else words)
        with open_source(keys.train_data, key="train_data") as source:
            texts = Progress(Texts(source, keys.train_field), "reading train_data", unit="text")
            tokens, vocabulary = read_tokens(texts, sentences, keys.workers)
        if len(vocabulary) == len(SPECIAL):
            raise UserError(f"train_data {keys.train_data} holds no text")
        orders = estimate(tokens, keys.order, len(vocabulary))
        counts = write_arpa(folder / "lm.arpa", orders, keys.order, tokens, vocabulary)
        return {"train_tokens": int((tokens != BEGIN).sum()), "ngrams": counts}

    identity = keys.reading() | {"order": keys.order, "train_field": keys.train_field}
    keys.facts |= work.step("language_model", identity, reads, estimate_model, alone=True)
    return Files(str(work.path / "language_model" / "lm.arpa"), pieces)


def read_tokens(texts: Iterable[str], sentences: Sentences, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Word ids of all sentences, each from BEGIN to END, (m,); and the word of each id, (v,) of objects."""

    def tokenized(batch: list[str]) -> list[str]:
        return [" ".join(sentence) for text in batch for sentence in sentences(text)]

    number: defaultdict[str, int] = defaultdict(None, {word: i for i, word in enumerate(SPECIAL)})
    number.default_factory = number.__len__
    ids = array("i")
    for batch in forked_map(tokenized, batched(texts, BATCH), workers):
        for sentence in batch:
            ids.append(BEGIN)
            ids.extend(number[word] for word in sentence.split(" ") if word not in LEFT_OUT)
            ids.append(END)
    return np.frombuffer(ids, np.int32), np.array(list(number), object)


def _train_tokenizer(keys, work: WorkFolder) -> str:
    def compute(folder: Path) -> dict[str, Any]:
        with open_source(keys.train_data, key="train_data") as source:
            lines = _sample(Texts(source, keys.train_field), keys.tokenizer_sample, keys.seed)
            sentences = keys.sentences(words)
            normalized = (line for text in lines for line in sentences.normalized(text))
            train_sentencepiece(normalized, folder / "sp.model", keys.vocab_size)
        return {}

    identity = {name: getattr(keys, name) for name in ("vocab_size", "tokenizer_sample", "train_field", "seed")}
    work.step("tokenizer", identity | keys.reading(), ["train_data"], compute, alone=True)
    return str(work.path / "tokenizer" / "sp.model")


def _sample(texts: Texts, size: int, seed: int) -> Iterator[str]:
    """`size` of the texts in their order, or all where there are no more."""
    chosen = np.ones(len(texts), bool)
    if size < len(texts):
        chosen[:] = False
        chosen[np.random.default_rng(seed).choice(len(texts), size, replace=False)] = True
    return (text for text, wanted in zip(texts, chosen, strict=True) if wanted)
