"""The loss of a model on the documents of one corpus, and its statistics."""

from typing import Any

import numpy as np

from data_common.calls.progress import Progress
from data_common.messages.errors import UserError
from data_common.models.likelihood import Documents, TokenLogProbabilities, counted, document_log_probabilities
from data_common.models.special_tokens import Special, Spelled
from data_common.models.tokens import tokenize, without_end
from data_common.parallel import distributed
from data_common.rows.texts import Texts
from model_eval.bootstrap import interval, resampled_sums


class Corpus:
    """The documents of one file, as tokens."""

    def __init__(self, name: str, texts: Texts, tokenizer, special: Special = "text"):
        """Raises: UserError where there is no token to predict."""
        self.spelled = Spelled(tokenizer, special)
        self.name, self.texts = name, texts
        sizes: list[int] = []
        store = tokenize(counted(self.spelled(texts), sizes), tokenizer, f"tokenizing {name}")
        read = Documents(without_end(store, tokenizer), np.array(sizes, np.int64))
        self.documents, self.predicted, self.bytes = read.store, read.predicted, read.bytes
        if not self.predicted.any():
            raise UserError(f"{name} has no token to predict")
        if (message := self.spelled.warning()) and distributed.is_main():
            print(f"warning: {name}: {message}")

    def nats(self, network: TokenLogProbabilities, max_length: int, batch_tokens: int) -> np.ndarray:
        """The loss of each document, (n,), summed over its tokens; the processes of a run share the documents."""
        mine = np.arange(len(self.documents))[distributed.rank() :: distributed.size()]
        documents, counts = self.documents.take(mine), self.predicted[mine]
        with Progress(desc=self.name, total=int(counts.sum()), unit="token", unit_scale=True) as progress:
            found = document_log_probabilities(network, documents, max_length, batch_tokens, progress)
        nats = np.zeros(len(self.documents))
        nats[mine] = -np.bincount(np.repeat(np.arange(len(mine)), counts), found, minlength=len(mine))
        distributed.add_up([nats])
        return nats


def statistics(
    nats: np.ndarray, tokens: np.ndarray, sizes: np.ndarray, iterations: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The result of one corpus from nats, predicted tokens and UTF-8 bytes of its documents, each (n,).

    The standard error of bits per byte is that of a ratio of two means over documents (Cochran, Sampling
    Techniques, 3rd edition, equation 2.46, without the finite population correction), the intervals are from
    resampled documents; None for one document.
    """
    n = len(nats)
    columns = np.column_stack([nats, tokens, sizes]).astype(np.float64)
    value, loss, perplexity = _ratios(columns.sum(axis=0))
    residuals = nats / np.log(2) - value * sizes
    stderr = float(np.sqrt(n / (n - 1) * (residuals**2).sum()) / sizes.sum()) if n > 1 else None
    intervals = None
    if n > 1 and iterations:
        found = _ratios(resampled_sums(columns, iterations, np.random.default_rng(seed)).T)
        intervals = dict(zip(("bits_per_byte", "loss", "perplexity"), map(interval, found), strict=True))
    return {
        "metric": "bits_per_byte",
        "higher_is_better": False,
        "value": float(value),
        "stderr": stderr,
        "n": n,
        "loss": float(loss),
        "perplexity": float(perplexity),
        "intervals": intervals,
        "tokens": int(tokens.sum()),
        "bytes": int(sizes.sum()),
    }


def _ratios(sums: np.ndarray) -> tuple[Any, Any, Any]:
    """Bits per byte, loss and perplexity of sums of nats, tokens and bytes, (3, ...) -> (...) each."""
    nats, tokens, sizes = sums
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # a draw may hold no token
        loss = nats / tokens
        return nats / np.log(2) / sizes, loss, np.exp(loss)
