"""The loss of a model on the documents of each corpus, and its statistics."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from common import models
from common.errors import UserError
from common.likelihood import TokenLogProbabilities, document_log_probabilities
from common.texts import Texts
from common.tokens import TokenStore, tokenize


def measure(
    model_path: str, corpora: Mapping[str, Texts], max_length: int, batch_tokens: int, device: str, dtype: models.Dtype
) -> dict[str, dict[str, Any]]:
    """The result of each corpus, by its name.

    Raises: UserError where the model cannot be loaded or has too few positions, or there is no token to predict.
    """
    tokenizer = models.load_tokenizer(model_path)
    documents = {name: tokenize_without_eos(texts, tokenizer, name) for name, texts in corpora.items()}
    for name, store in documents.items():
        if not (store.lengths > 1).any():
            raise UserError(f"{name} has no token to predict")
    model = models.load_on_device(model_path, tokenizer, device, dtype)
    models.check_positions(model, min(max_length, max(int(store.lengths.max()) for store in documents.values())))
    network, results = TokenLogProbabilities(model), {}
    for name, store in documents.items():
        predicted = np.maximum(store.lengths - 1, 0)
        with tqdm(total=int(predicted.sum()), unit="token", unit_scale=True, desc=name, disable=None) as progress:
            found = document_log_probabilities(network, store, max_length, batch_tokens, progress)
        nats = -np.bincount(np.repeat(np.arange(len(store)), predicted), found, minlength=len(store))
        sizes = np.array([len(text.encode()) for text in corpora[name]])
        results[name] = statistics(nats, predicted, sizes)
    return results


def tokenize_without_eos(texts: Iterable[str], tokenizer, name: str) -> TokenStore:
    """Each document as BOS (if the tokenizer has one) + its text."""
    store = tokenize(texts, tokenizer, name=f"tokenizing {name}")
    return TokenStore(store.tokens, store.starts, store.lengths - (tokenizer.eos_token_id is not None))


def statistics(nats: np.ndarray, tokens: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
    """The result of one corpus from nats, predicted tokens and UTF-8 bytes of its documents, each (n,).

    The standard error of bits per byte is that of a ratio of two means over documents (Cochran, Sampling
    Techniques, 3rd edition, equation 2.46, without the finite population correction); None for one document.
    """
    bits, n = nats / np.log(2), len(nats)
    value = bits.sum() / sizes.sum()
    loss = float(nats.sum() / tokens.sum())
    residuals = bits - value * sizes
    stderr = float(np.sqrt(n / (n - 1) * (residuals**2).sum()) / sizes.sum()) if n > 1 else None
    return {
        "metric": "bits_per_byte",
        "value": float(value),
        "stderr": stderr,
        "n": n,
        "loss": loss,
        "perplexity": float(np.exp(loss)),
        "tokens": int(tokens.sum()),
        "bytes": int(sizes.sum()),
    }
