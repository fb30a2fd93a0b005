"""Vectors of texts without any model: TF-IDF of words, reduced by a singular value decomposition (LSA) where need be.

Indexing by Latent Semantic Analysis (Deerwester et al. 1990), by scikit-learn. What a vector is depends on the corpus
that it was fitted on, not on the order of its rows.
"""

import re
import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from data_common.messages.errors import UserError

FITTED = 50_000  # texts of the corpus that it is fitted on, at most
TERMS = 2**16  # the most frequent ones are kept
ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"  # written without spaces: each is a term
WORD = re.compile(rf"[{ALONE}]|[^\W{ALONE}]+")


class Tfidf:
    """Texts to vectors of length 1; `width` numbers each, `part` texts at a time are a good number."""

    part = 4096

    def __init__(self, texts: Iterable[str], hashes: np.ndarray, dimensions: int):
        """texts: of the corpus. hashes: (n,), of each of them (`store.text_hashes`): equal ones count once.

        Raises: UserError where they hold no word.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        lowest, rows = np.unique(hashes["high"], return_index=True)  # a sample that no order of the rows changes
        chosen = dict(zip(rows[:FITTED].tolist(), lowest[:FITTED].tolist(), strict=True))
        kept = sorted((chosen[row], text) for row, text in enumerate(texts) if row in chosen)
        self.terms = TfidfVectorizer(
            tokenizer=WORD.findall, token_pattern=None, sublinear_tf=True, max_features=TERMS, dtype=np.float32
        )
        try:
            counts = self.terms.fit_transform([text for _, text in kept])
        except ValueError:  # no term at all
            raise UserError("embedder=tfidf: no text of the corpus holds a word") from None
        self.reduction = None
        self.width = counts.shape[1]
        if self.width > dimensions:
            self.width = min(dimensions, len(kept))
            self.reduction = TruncatedSVD(self.width, random_state=0)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "invalid value encountered", RuntimeWarning)  # 0/0: no variance
                self.reduction.fit(counts)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, width) float32; NaN for a text without a term that is known."""
        counts = self.terms.transform(texts)
        vectors = (self.reduction.transform(counts) if self.reduction else counts.toarray()).astype(np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return vectors / np.where(lengths > 1e-6, lengths, np.nan)
