"""Output layer and cross-entropy of a few positions at a time, forward and backward, while a model is trained."""

import torch
from torch.nn.functional import linear_cross_entropy, pad

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
    **_,
) -> torch.Tensor:
    """Cross-entropy (nats) of the next tokens, as transformers' ForCausalLMLoss of `head(states)`.

    states: (batch, positions, width). labels: (batch, positions); shift_labels: those of the next tokens already.
    num_items_in_batch: what the sum is divided by; None = the number of labels that are not ignored.
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
        reduction="none" if states.dtype == torch.bfloat16 else "sum",
        ignore_index=ignore_index,
        options=torch.nn.LinearCrossEntropyOptions(batch_chunk_size=POSITIONS),
    )
    total = losses.to(torch.promote_types(losses.dtype, torch.float32)).sum()
    if num_items_in_batch is None:
        num_items_in_batch = (targets != ignore_index).sum()
    return total / num_items_in_batch
