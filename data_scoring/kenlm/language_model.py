"""Finding and loading an n-gram model, and the probability of documents under it."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_common.messages.errors import UserError
from data_common.rows import shards
from data_scoring.kenlm.tokenization import Sentences

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+)?")  # owner/name, or owner/name/folder
SUFFIXES = (".arpa.bin", ".arpa", ".binary", ".bin")  # of a model in a folder, behind the language
# What `Scores` gives of a text.
COLUMNS = ("perplexity", "worst line", "tokens", "bits", "bytes", "characters")
SPACE = "▁"  # how SentencePiece writes it


@dataclass(frozen=True)
class Files:
    """The n-gram model (ARPA or KenLM binary) and the SentencePiece model that belongs to it, if any."""

    model: str
    sentencepiece: str | None


def is_hub_id(path: str) -> bool:
    """Whether `path` can only be an id of the hub: nothing is there, and it is not spelled like a file."""
    spelled = HUB_ID.fullmatch(path) and path[0] != "." and not path.endswith(SUFFIXES)
    return bool(spelled) and not Path(path).exists()


def files_of(path: str, language: str) -> Files:
    """The files behind a model file, or a folder with `<language>.arpa.bin` and `<language>.sp.model` as CCNet's.

    Raises: UserError where they are not there.
    """
    if Path(path).is_dir():
        found = next((file for suffix in SUFFIXES if (file := Path(path, language + suffix)).is_file()), None)
        if found is None:
            raise UserError(f"{path} has no model for language {language} ({language}.arpa.bin)")
    elif path.endswith(shards.SUFFIXES):
        raise UserError(f"cannot load the n-gram model {path}: it holds JSON lines (train_data={path} trains one)")
    elif (found := Path(path)).is_file():
        language = next((found.name.removesuffix(s) for s in SUFFIXES if found.name.endswith(s)), found.name)
    else:
        raise UserError(f"model_path {path}: no such file, folder or hub id")
    pieces = found.with_name(f"{language}.sp.model")
    return Files(str(found), str(pieces) if pieces.is_file() else None)


def download(hub_id: str, language: str) -> str:
    """The folder with the files of a language of a hub repository; `owner/name/folder` is a folder inside it."""
    from data_common.hub.snapshots import cached_files

    owner, name, *folder = hub_id.split("/")
    root = cached_files(f"{owner}/{name}", _names(folder, language, (*SUFFIXES, ".sp.model")))
    return str(Path(root, *folder))


def check_hub(hub_id: str, language: str) -> None:
    """Raises UserError where the hub has no model of a language there; nothing is downloaded."""
    from data_common.hub.snapshots import hub_errors, only_on_hub

    owner, name, *folder = hub_id.split("/")
    with hub_errors(f"{hub_id} (no such path here)"):
        only_on_hub(f"{owner}/{name}", _names(folder, language, SUFFIXES))


def _names(folder: Sequence[str], language: str, suffixes: Sequence[str]) -> list[str]:
    return ["/".join([*folder, f"{language}{suffix}"]) for suffix in suffixes]


def load_model(path: str):
    """A kenlm.Model. Raises: UserError where the package is missing or the file is no model."""
    try:
        import kenlm
    except ModuleNotFoundError:
        raise UserError("the package kenlm is missing: python -m pip install kenlm (g++ builds it)") from None
    config = kenlm.Config()
    config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    try:
        return kenlm.Model(os.fsencode(path), config)  # a name need not be UTF-8
    except (OSError, RuntimeError, UnicodeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"cannot load the n-gram model {path}: {reason}") from error


@dataclass(frozen=True)
class Scores:
    """Perplexities of documents: 10 ** (-log10 probability / (tokens + one </s> a sentence)), as CCNet's; and bits.

    model: a kenlm.Model, or what has its `score` (tokens joined by spaces -> log10 probability of the sentence, </s>
        included) and knows its words by `in`.
    min_tokens: a document with fewer has none; a line with fewer is not looked at for the worst line.
    """

    sentences: Sentences
    model: Any
    min_tokens: int

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """A row of COLUMNS for each text, (n, 6): perplexity, that of its worst sentence, tokens; bits, and the size of
        the text as it stands in UTF-8 bytes and characters. NaN for the first two and the bits of a short text.
        """
        return np.array([self._of(text) for text in texts]).reshape(-1, len(COLUMNS))

    def _of(self, text: str) -> tuple[float, float, int, float, int, int]:
        tokens, total, predicted, worst, spelled = 0, 0.0, 0, 0.0, 0
        for sentence in self.sentences(text):
            found = self.model.score(" ".join(sentence))
            tokens += len(sentence)
            predicted += len(sentence) + 1
            total += found
            spelled += self._unknown_bytes(sentence)
            if len(sentence) >= self.min_tokens:
                worst = max(worst, -found / (len(sentence) + 1))
        size = len(text.encode()), len(text)
        if tokens < max(self.min_tokens, 1):
            return np.nan, np.nan, tokens, np.nan, *size
        mean = -total / predicted
        return 10**mean, 10 ** (worst or mean), tokens, 8 * spelled - total / math.log10(2), *size

    def _unknown_bytes(self, sentence: Sequence[str]) -> int:
        """UTF-8 bytes of the tokens that the model does not know: to name one takes its bytes behind an <unk>.

        Without them a foreign script, one long unknown piece to SentencePiece, would be the cheapest text of all.
        """
        unknown = {token for token in set(sentence) if token not in self.model}
        return sum(len(token.replace(SPACE, " ").encode()) for token in sentence if token in unknown) if unknown else 0


def unknown_share(model, sentences: Sentences, texts: Sequence[str]) -> float:
    """Share of the tokens of these texts that the model does not know."""
    known = [token in model for text in texts for sentence in sentences(text) for token in sentence]
    return 1 - sum(known) / len(known) if known else 0.0
