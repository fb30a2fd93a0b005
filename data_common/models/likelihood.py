"""Log-probability of every token of documents under a causal LM, without the logits of a whole batch at once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from data_common.calls.progress import Progress
from data_common.messages.errors import UserError
from data_common.models.tokens import IGNORED, TokenStore, pad, token_budget_batches, windows
from data_common.models.traits import arbitrary_tokens, states_of, traits

LOGITS = {"cpu": 2**22, "cuda": 2**26}  # formed at a time: a GPU needs more to be busy


@dataclass(frozen=True)
class Documents:
    """Texts as a causal language model reads them: BOS, where the tokenizer has one, and the tokens of the text.

    All but the first are predicted, EOS is not: without BOS the first token of a text is context only.
    """

    store: TokenStore  # without EOS
    bytes: np.ndarray  # UTF-8, of each text, (n,)

    @cached_property
    def predicted(self) -> np.ndarray:
        """How many tokens of each text are predicted, (n,)."""
        return np.maximum(self.store.lengths - 1, 0)


def counted(texts: Iterable[str], sizes: list[int]) -> Iterator[str]:
    """The same texts; their UTF-8 bytes go to `sizes` while they pass."""
    for text in texts:
        sizes.append(len(text.encode()))
        yield text


class TokenLogProbabilities:
    """Reads the log-probabilities of a batch of sequences from any causal LM of transformers.

    Where the model is its base model with a plain linear layer on top, that layer is applied to a few positions at a
    time; else the model's own logits are taken, whole.
    """

    def __init__(self, model: torch.nn.Module, autocast: torch.dtype | None = None):
        """model: in evaluation mode. autocast: bfloat16 for products; None computes in the weights' own precision."""
        self.model, self.autocast = model, autocast
        self.mixed_lengths = traits(model).mixed_lengths
        self.head = plain_head(model)
        if self.head is None:
            name = type(model).__name__
            print(f"note: the output layer of {name} is not a plain linear one: logits are formed for whole batches")

    @torch.inference_mode()
    def __call__(self, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """log p (nats) of every token but the first, given all before, (sequences, longest - 1); 0 on padding.

        The log-softmax is in float32, or float64 where the model is.
        """
        device = self.model.device
        ids, labels = (torch.from_numpy(array).to(device) for array in pad(sequences))
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            inputs = {"input_ids": ids[:, :-1], "use_cache": False}
            if self.head is None:
                states = states_of(self.model(**inputs)).flatten(0, 1)
                vocabulary = states.shape[-1]
            else:
                states = states_of(self.model.base_model(**inputs)).flatten(0, 1)
                vocabulary = self.head.out_features
            chunk = max(1, LOGITS.get(device.type, 2**22) // vocabulary)
            targets = labels[:, 1:].flatten()
            found = [self._chunk(*parts) for parts in zip(states.split(chunk), targets.split(chunk), strict=True)]
        return torch.cat(found).view(len(ids), -1).cpu().numpy()

    def _chunk(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """states: (positions, width), or their logits where there is no head; targets: (positions,)."""
        logits = states if self.head is None else self.head(states)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return -cross_entropy(logits, targets, reduction="none", ignore_index=IGNORED)


@torch.no_grad()
def plain_head(model: torch.nn.Module) -> torch.nn.Linear | None:
    """The output layer, where the model is its base model with a plain linear layer on the hidden states: tried out.

    (Some models scale or bound their logits.)
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if type(head) is not torch.nn.Linear or getattr(model, "base_model", model) is model:
        return None
    ids = arbitrary_tokens(model, 8, rows=2)
    hidden = states_of(model.base_model(input_ids=ids, use_cache=False))
    if hidden is None or hidden.shape[-1] != head.in_features:
        return None
    logits = states_of(model(input_ids=ids, use_cache=False))
    own = head(hidden).to(logits.dtype)
    return head if own.shape == logits.shape and (own - logits).norm() <= 1e-6 * logits.norm() else None


def document_log_probabilities(
    network: TokenLogProbabilities,
    documents: TokenStore,
    max_length: int,
    batch_tokens: int,
    progress: Progress,
    stride: int | None = None,
) -> np.ndarray:
    """log p of every token but the first of each document, (predicted tokens,), one document after the other.

    A document longer than `max_length` tokens is read in windows, each of which begins `stride` tokens behind the one
    before and predicts the tokens that those before have not. stride None or max_length: neighbours share one token,
    as the first token of a window has nothing to be predicted from. batch_tokens: padded tokens of one forward pass.
    Raises: UserError where a result is no finite number.
    """
    overlap = max(1, max_length - (stride or max_length))
    parts, document = windows(documents, max_length, overlap)
    first = np.where(np.diff(document, prepend=-1) > 0, 1, overlap)  # the first token that each window predicts
    counts = parts.lengths - first
    ends = np.cumsum(counts)
    result = np.empty(counts.sum(), np.float64 if network.model.dtype == torch.float64 else np.float32)
    # The longest first: what does not fit into memory fails at once, and the time left is not underestimated.
    for batch in reversed(token_budget_batches(parts.lengths, batch_tokens, network.mixed_lengths)):
        for window, found in zip(batch, network([parts[window] for window in batch]), strict=True):
            stop = ends[window]
            result[stop - counts[window] : stop] = found[first[window] - 1 : parts.lengths[window] - 1]
        progress.update(int(counts[batch].sum()))
    if not np.isfinite(result).all():
        raise UserError("the model gives log-probabilities that are no finite numbers")
    return result
