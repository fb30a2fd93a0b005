"""The loss of a model on documents: windows over long ones, batches of like length, sums per document."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from common import models
from common.errors import UserError
from common.texts import Texts
from common.tokens import IGNORED, TokenStore, pad, token_budget_batches, tokenize, windows


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
    results = {}
    for name, store in documents.items():
        nats = document_losses(model, store, max_length, batch_tokens, name)
        sizes = np.array([len(text.encode()) for text in corpora[name]])
        results[name] = statistics(nats, np.maximum(store.lengths - 1, 0), sizes)
    return results


def tokenize_without_eos(texts: Iterable[str], tokenizer, name: str) -> TokenStore:
    """Each document as BOS (if the tokenizer has one) + its text."""
    store = tokenize(texts, tokenizer, name=f"tokenizing {name}")
    return TokenStore(store.tokens, store.starts, store.lengths - (tokenizer.eos_token_id is not None))


@torch.inference_mode()
def document_losses(
    model: torch.nn.Module, documents: TokenStore, max_length: int, batch_tokens: int, name: str
) -> np.ndarray:
    """Nats of all predicted tokens of each document, (n,), float64; the log-softmax is at least in float32."""
    # Windows share one token, so that every token but the first of a document is predicted exactly once.
    parts, document = windows(documents, max_length, overlap=1)
    nats = np.zeros(len(parts))
    total = int(parts.lengths.sum() - len(parts))
    with tqdm(total=total, unit="token", unit_scale=True, desc=name, disable=None) as bar:
        # The longest first: what does not fit into memory fails at once, and the time left is not underestimated.
        for batch in reversed(token_budget_batches(parts.lengths, batch_tokens)):
            ids, labels = (torch.from_numpy(array).to(model.device) for array in pad([parts[i] for i in batch]))
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits.flatten(0, 1)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            targets = labels[:, 1:]
            losses = cross_entropy(logits, targets.flatten(), reduction="none", ignore_index=IGNORED)
            nats[batch] = losses.view_as(targets).cpu().double().sum(1).numpy()
            bar.update(int(parts.lengths[batch].sum()) - len(batch))
    return np.bincount(document, nats, minlength=len(documents))


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
