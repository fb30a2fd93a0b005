"""From a document to the sentences of an n-gram model: normalised lines, cut into SentencePiece pieces or words."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data_common.files.atomic import atomic_file
from data_common.messages.errors import UserError
from data_scoring.kenlm.normalization import Normalization

Lines = Literal["document", "per-line"]
Tokenize = Callable[[str], list[str]]

MARK = r"!-/:-@\[-`{-~"  # ASCII punctuation, as ranges
WORD = re.compile(rf"[^\s{MARK}]+(?:'[^\s{MARK}]+)*|[{MARK}]")
LONG_WORD = 16  # characters
PIECE = 4000  # characters of the longest text that the training of SentencePiece sees
THREADS = 4  # of that training; fixed, since the number decides in which order it adds up


@dataclass(frozen=True)
class Sentences:
    """What the model sees of a document: `document` is one sentence, `per-line` each line that is not empty.

    A document in one sentence loses its newlines with the control characters, as in CCNet's mining.
    """

    normalization: Normalization
    lines: Lines
    tokenize: Tokenize

    def normalized(self, text: str) -> list[str]:
        """The normalised sentences of a document."""
        parts = text.split("\n") if self.lines == "per-line" else [text]
        return [line for part in parts if (line := self.normalization(part))]

    def __call__(self, text: str) -> list[list[str]]:
        """The tokens of each sentence that has any."""
        return [tokens for line in self.normalized(text) if (tokens := self.tokenize(line))]


def words(line: str) -> list[str]:
    """Words and ASCII punctuation marks; an apostrophe inside a word is part of it."""
    return WORD.findall(line)


def in_long_words(sentences: Iterable[list[str]]) -> float:
    """The share of the characters that stand in words of more than LONG_WORD: much, where no spaces part words."""
    lengths = np.array([len(word) for sentence in sentences for word in sentence])
    return float(lengths[lengths > LONG_WORD].sum() / max(1, lengths.sum()))


def sentencepiece(path: str) -> Tokenize:
    """The pieces of a SentencePiece model. Raises: UserError where it does not load."""
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_file=path).EncodeAsPieces
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot load the SentencePiece model {path}: {str(error).split(chr(10))[0]}") from error


def train_sentencepiece(lines: Iterable[str], path: Path, vocab_size: int) -> None:
    """Train a unigram model (CCNet's kind) of at most `vocab_size` pieces. Raises: UserError for too little text."""
    from sentencepiece import SentencePieceTrainer

    pieces = (line[start : start + PIECE] for line in lines for start in range(0, len(line), PIECE))
    try:
        with atomic_file(path) as partial, open(partial, "wb") as file:
            SentencePieceTrainer.train(
                sentence_iterator=pieces,
                model_writer=file,
                model_type="unigram",
                vocab_size=vocab_size,
                hard_vocab_limit=False,  # a small text has fewer
                max_sentence_length=4 * PIECE,  # bytes
                num_threads=THREADS,
                minloglevel=2,
            )
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"SentencePiece cannot be trained on this text (tokenizer=words can do): {reason}") from error
