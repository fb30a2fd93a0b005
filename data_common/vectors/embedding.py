"""The vector of every text by one embedder: found in the user's cache, else computed and kept there."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from data_common.calls import remote_code
from data_common.calls.progress import Progress
from data_common.files.fingerprint import fingerprint
from data_common.models.special_tokens import identity_of
from data_common.parallel import distributed
from data_common.vectors.settings import TFIDF, Embedder
from data_common.vectors.static_table import StaticTable
from data_common.vectors.store import VectorStore, text_hashes
from data_common.vectors.wanted import Wanted

VERSION = 1  # of the vectors: raised when an embedder gives others


class EmbeddingSpace:
    """Vectors that can be compared: by one embedder, loaded once, when a text has no vector yet."""

    def __init__(self, settings: Embedder, corpus: Iterable[str]):
        """corpus: what tfidf is fitted on, an iterable that can be read again."""
        self.settings, self.corpus = settings, corpus
        self.facts = {"found": 0, "computed": 0}  # distinct texts

    def vectors(self, texts: Sequence[str], name: str = "texts") -> np.ndarray:
        """One vector for each text, (n, width) float16 of length 1, a memory map; equal texts have equal vectors.

        NaN for a text without a token. texts: an iterable with a length, that can be read again. name: of the texts, in
        what is printed. Several processes (NPROC) share the work; each gets all vectors.
        Raises: UserError where the embedder cannot be loaded or gives NaN, or the disk is full.
        """
        hashes = self._corpus_hashes if texts is self.corpus else text_hashes(texts)
        wanted, store = Wanted(hashes), VectorStore(self._key)
        distinct = int(wanted.missing.sum())
        if width := store.width():
            wanted.open(width)
            wanted.take(store)
        left = int(wanted.missing.sum())
        if left or not width:
            wanted.open(self._embed.width)
            with Progress(desc=f"vectors of {name}", total=left, unit="text") as progress:
                for wait in (False, True):
                    self._compute(texts, wanted, store, progress, wait)
        self.facts["found"] += distinct - left
        self.facts["computed"] += left
        if distributed.is_main():
            print(f"vectors of {name}: {distinct - left:,} of {distinct:,} distinct texts found, {left:,} computed")
        return wanted.complete()

    def _compute(
        self, texts: Iterable[str], wanted: Wanted, store: VectorStore, progress: Progress, wait: bool
    ) -> None:
        """What is missing, part by part. wait: for the parts that other processes are at, which else are left out."""
        if not wanted.missing.any():
            return
        for rows, part in wanted.parts(texts, self._embed.part):
            with store.claimed(wanted.hashes[rows], wait) as mine:
                if mine:
                    before = int(wanted.missing.sum())
                    wanted.take(store)
                    rest = wanted.missing[rows]
                    if rest.any():
                        found = self._embed([text for text, missing in zip(part, rest, strict=True) if missing])
                        store.add(wanted.hashes[rows[rest]], found.astype(np.float16))
                        wanted.put(rows[rest], found)
                    progress.update(before - int(wanted.missing.sum()))

    @cached_property
    def _corpus_hashes(self) -> np.ndarray:
        return text_hashes(self.corpus)

    @cached_property
    def _key(self) -> str:
        """Follows from all that a vector depends on beside its text."""
        settings = self.settings
        facts: dict[str, Any] = {"version": VERSION}
        if settings.embedder == TFIDF:
            texts = np.unique(np.ascontiguousarray(self._corpus_hashes).view("V16"))  # in whatever order
            facts |= {"corpus": xxhash.xxh3_128_hexdigest(texts.tobytes()), "width": settings.embedding_dimensions}
        else:
            facts |= {"embedder": _content(settings.embedder), "max_length": settings.embedding_max_length}
        if settings.is_model:
            from data_common.models.loading import pick_device, pick_dtype  # imports torch

            dtype = pick_dtype(settings.dtype, pick_device(settings.device))
            facts |= {"pooling": settings.pooling, "dtype": str(dtype)}
            facts |= identity_of(settings.special_tokens_in_text) | remote_code.identity(settings.trust_remote_code)
        return xxhash.xxh3_128_hexdigest(json.dumps(facts, sort_keys=True).encode())

    @cached_property
    def _embed(self) -> Callable[[Sequence[str]], np.ndarray]:
        """The embedder: texts -> (texts, width)."""
        settings = self.settings
        if settings.embedder == TFIDF:
            from data_common.vectors.tfidf import Tfidf

            return Tfidf(self.corpus, self._corpus_hashes, settings.embedding_dimensions)
        if not settings.is_model:
            return StaticTable(settings.embedder, settings.embedding_max_length)
        from data_common.vectors.language_model import LanguageModel  # imports torch

        return LanguageModel(
            settings.embedder,
            settings.pooling,
            settings.embedding_max_length,
            settings.embedding_batch_tokens,
            settings.device,
            settings.dtype,
            settings.special_tokens_in_text,
            settings.trust_remote_code,
        )


def vectors(texts: Sequence[str], settings: Embedder) -> np.ndarray:
    """`EmbeddingSpace.vectors` of texts that are a corpus of their own, (n, width)."""
    return EmbeddingSpace(settings, texts).vectors(texts)


def _content(path: str) -> str:
    """What an embedder holds, wherever it lies: the digest of a folder, the revision of a hub id."""
    if Path(path).is_dir():
        return fingerprint(path)["xxh3"]
    from data_common.hub.snapshots import cached_files
    from data_common.models.loading import errors_of

    with errors_of(path, "model"):
        return f"{path}@{cached_files(path, ['config.json']).name}"
