"""The last hidden states of an encoder or a causal LM without its head: how it reads a batch, tried on the model."""

from collections.abc import Sequence

import numpy as np
import torch

from data_common.messages.errors import UserError
from data_common.models.tokens import IGNORED, embedding_count, pad
from data_common.models.traits import SHORT, arbitrary_tokens, positions_of, same_states, states_of


def probe(backbone: torch.nn.Module, max_length: int) -> tuple[bool, bool, int]:
    """How a backbone reads documents of up to max_length tokens, tried on the model itself.

    -> (whether no hidden state depends on later tokens; whether a row is read alike alone and padded to the longest,
    for convolutions, say, see padding behind a mask; width of the hidden states). Raises: UserError where it has none.
    """
    training = backbone.training
    backbone.eval()
    long = max(2, min(max_length, positions_of(backbone) or max_length))
    ids = arbitrary_tokens(backbone, min(SHORT, long))
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % embedding_count(backbone)
    one, two = (hidden_states(backbone, probed)[:, :-1] for probed in (ids, other))
    # Rounding that differs from call to call may pass for a dependence: then the mask is given, which is never wrong.
    causal = torch.equal(one, two)
    row = ids[:, : min(SHORT, long // 2)]
    real = (torch.arange(long, device=ids.device) < row.shape[1]).long()[None]
    padded = torch.nn.functional.pad(row, (0, long - row.shape[1]))
    masks = (None, None) if causal else (real[:, : row.shape[1]], real)
    alone, beside = (
        hidden_states(backbone, batch, mask)[:, : row.shape[1]]
        for batch, mask in zip((row, padded), masks, strict=True)
    )
    backbone.train(training)
    return causal, same_states(alone, beside), alone.shape[-1]


@torch.no_grad()
def hidden_states(backbone: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """ids, mask: (rows, tokens) -> (rows, tokens, width). Raises: UserError where the model does not tell them."""
    hidden = states_of(backbone(input_ids=ids, attention_mask=mask))
    if hidden is None:
        raise UserError(f"the model ({type(backbone).__name__}) gives no last_hidden_state")
    return hidden


def to_batch(documents: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask, both (batch, longest), padded on the right."""
    ids, labels = pad(documents)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(labels != IGNORED).long()}
