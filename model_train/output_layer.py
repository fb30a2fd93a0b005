"""The loss while a model is trained: output layer and cross-entropy of a few positions at a time, weighted tokens."""

import torch
from torch.nn.functional import cross_entropy, linear_cross_entropy, pad
from transformers.loss.loss_utils import ForCausalLMLoss

from data_common.messages.errors import UserError
from data_common.models.likelihood import plain_head
from data_common.models.tokens import IGNORED

POSITIONS = 256  # whose logits exist at a time


class TrainingHead(torch.nn.Linear):
    """An output layer that leaves the states as they are in training, where the loss applies it; else a plain one."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """States in training, logits in evaluation."""
        return states if self.training else super().forward(states)


def chunk_the_loss(model: torch.nn.Module, precision: torch.dtype) -> None:
    """From now on no tensor (positions, vocabulary) exists when `model` computes its loss in training mode.

    Its `logits` are the hidden states then. In evaluation mode and on the disk it is what it was.
    precision: bfloat16 is by autocast.
    Raises: UserError where the output layer is not a plain linear one, or the model has a loss of its own.
    """
    name, device, mode, ordinary = type(model).__name__, model.device, model.training, model.loss_function
    model.eval()  # no dropout while it is tried out
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        head = plain_head(model)
        if head is None:
            raise UserError(f"the output layer of {name} is not a plain linear one: chunked_loss=false")
        model.loss_function = lambda *_, **__: torch.tensor(torch.nan)
        ids = torch.zeros((1, 2), dtype=torch.int64, device=device)
        if not model(input_ids=ids, labels=ids).loss.isnan():
            raise UserError(f"{name} computes its loss in a way of its own: chunked_loss=false")

    def loss(logits, labels, vocab_size, **options):
        if head.training:
            return chunked_loss(logits, head, labels, **options)
        return ordinary(logits, labels, vocab_size, **options)

    model.loss_function, head.__class__ = loss, TrainingHead
    model.train(mode)


def chunked_loss(
    states: torch.Tensor,
    head: torch.nn.Linear,
    labels: torch.Tensor | None,
    num_items_in_batch: torch.Tensor | int | None = None,
    ignore_index: int = IGNORED,
    shift_labels: torch.Tensor | None = None,
    token_weights: torch.Tensor | None = None,
    **_,
) -> torch.Tensor:
    """Cross-entropy (nats) of the next tokens, as transformers' ForCausalLMLoss of `head(states)`.

    states: (batch, positions, width). labels: (batch, positions); shift_labels: those of the next tokens already.
    num_items_in_batch: what the sum is divided by; None = the number of labels that are not ignored.
    token_weights: as of `weighted_loss`, in place of it.
    """
    if shift_labels is None:
        shift_labels = pad(labels[..., 1:], (0, 1), value=ignore_index)
    targets = shift_labels.flatten().to(states.device)
    weight, bias, kind = head.weight, head.bias, states.device.type
    if torch.is_autocast_enabled(kind):
        lower = torch.get_autocast_dtype(kind)
        states, weight, bias = states.to(lower), weight.to(lower), None if bias is None else bias.to(lower)
    # The library adds bfloat16 losses up in bfloat16, wrong by parts in a thousand: there they are taken one by one.
    losses = linear_cross_entropy(
        states.flatten(0, -2),
        weight,
        targets,
        linear_bias=bias,
        reduction="none" if states.dtype == torch.bfloat16 or token_weights is not None else "sum",
        ignore_index=ignore_index,
        options=torch.nn.LinearCrossEntropyOptions(batch_chunk_size=POSITIONS),
    )
    losses = losses.to(torch.promote_types(losses.dtype, torch.float32))
    if token_weights is not None:
        return _weighted_sum(losses, token_weights)
    total = losses.sum()
    if num_items_in_batch is None:
        num_items_in_batch = (targets != ignore_index).sum()
    return total / num_items_in_batch


def weigh_the_loss(model: torch.nn.Module, precision: torch.dtype) -> None:
    """From now on `model` takes `token_weights` beside its labels, as `weighted_loss` does. Before `chunk_the_loss`.

    precision: bfloat16 is by autocast.
    Raises: UserError where the model has a loss of its own, or does not hand them to it.
    """
    name, device, mode, ordinary, handed = type(model).__name__, model.device, model.training, model.loss_function, []

    def probe(*_, token_weights=None, **__):
        handed.append(token_weights)
        return torch.tensor(torch.nan)

    def loss(logits, labels, vocab_size, token_weights=None, **options):
        if token_weights is None:
            return ordinary(logits, labels, vocab_size, **options)
        return weighted_loss(logits, labels, token_weights)

    model.loss_function = probe
    model.eval()  # no dropout while it is tried out
    ids = torch.zeros((1, 2), dtype=torch.int64, device=device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        is_own = not model(input_ids=ids, labels=ids, token_weights=ids).loss.isnan()
    if is_own or handed[0] is None or ordinary is not ForCausalLMLoss:
        raise UserError(f"{name} computes its loss in a way of its own: weight_field=null")
    model.loss_function = loss
    model.train(mode)


def weighted_loss(logits: torch.Tensor, labels: torch.Tensor, token_weights: torch.Tensor) -> torch.Tensor:
    """Sum of the cross-entropies (nats) of the next tokens, each times its weight.

    logits: (batch, positions, vocabulary). labels: (batch, positions). token_weights: (batch, positions), the bits of
    float32 in integers, which no wrapper rounds; of all tokens of an optimizer step they add up to 1.
    """
    targets = pad(labels[..., 1:], (0, 1), value=IGNORED).flatten().to(logits.device)
    losses = cross_entropy(logits.flatten(0, -2).float(), targets, ignore_index=IGNORED, reduction="none")
    return _weighted_sum(losses, token_weights)


def _weighted_sum(losses: torch.Tensor, token_weights: torch.Tensor) -> torch.Tensor:
    """losses: (batch x positions,), of the next tokens. token_weights: as of `weighted_loss`."""
    weights = token_weights.to(losses.device, torch.int32).view(torch.float32)
    return (losses * pad(weights[..., 1:], (0, 1)).flatten()).sum()
