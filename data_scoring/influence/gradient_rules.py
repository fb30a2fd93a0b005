"""Per-sample gradients of one layer's parameters, from its inputs and the gradient of the summed loss at its outputs.

A rule gives any rows of the gradient of a weight, so that a large one is formed and reduced piece by piece.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.func import functional_call, vjp, vmap
from transformers.pytorch_utils import Conv1D

from common.tokens import IGNORED

Rows = slice | torch.Tensor  # of a parameter along its first dimension: from start to stop, or indices in order
Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass
class Use:
    """One use of a layer in the forward pass."""

    module: torch.nn.Module
    name: str  # of the layer's parameter
    inputs: torch.Tensor  # (samples, ...)
    output_gradient: torch.Tensor  # (samples, ...)

    def of(self, samples: slice) -> "Use":
        """The use by some of the samples."""
        return Use(self.module, self.name, self.inputs[samples], self.output_gradient[samples])

    def gradients(self, rows: Rows, product: Product = torch.matmul) -> torch.Tensor:
        """Gradient of each sample at these rows of the parameter, (samples, rows, ...)."""
        return RULES.get(type(self.module), _by_autograd)(self, rows, product)


@dataclass
class HeadUse:
    """The use of the output layer, whose output gradient is too large to be held for all samples."""

    head: torch.nn.Linear
    name: str
    hidden: torch.Tensor  # (samples, tokens, width)
    labels: torch.Tensor  # (samples, tokens)

    def of(self, samples: slice) -> Use:
        """The use by some of the samples; the gradient at their logits is formed here."""
        hidden = self.hidden[samples]
        return Use(self.head, self.name, hidden, head_gradient(self.head, hidden, self.labels[samples]))


class ReusedProduct:
    """Matrix product in memory that the next one overwrites: on a CPU fresh pages cost half as much as the product."""

    def __init__(self) -> None:
        self.memory = torch.empty(0)

    def __call__(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        if left.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return left @ right
        shape = (*left.shape[:-1], right.shape[-1])
        if self.memory.dtype != left.dtype or self.memory.numel() < math.prod(shape):
            self.memory = left.new_empty(math.prod(shape))
        return torch.matmul(left, right, out=self.memory[: math.prod(shape)].view(shape))


@torch.no_grad()
def head_gradient(head: torch.nn.Linear, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Gradient at the logits of each sample's mean token loss: softmax - one-hot, over the token count.

    hidden: (samples, tokens, width); labels: (samples, tokens). -> (samples, tokens, vocabulary).
    """
    logits = head(hidden)
    gradient = torch.softmax(logits if logits.dtype == torch.float64 else logits.float(), -1)
    targets = labels.clamp_min(0)[..., None]
    gradient.scatter_add_(-1, targets, -torch.ones_like(targets, dtype=gradient.dtype))
    counted = (labels != IGNORED).to(gradient.dtype)
    return gradient.mul_((counted / counted.sum(1, keepdim=True))[..., None])


def _linear(use: Use, rows: Rows, product: Product) -> torch.Tensor:
    """y = x W^T + b: dW = sum_s dy_s x_s^T, db = sum_s dy_s."""
    gradient = use.output_gradient[..., rows]
    if use.name == "bias":
        return gradient.sum(1)
    return product(gradient.transpose(1, 2), use.inputs.to(gradient.dtype))


def _conv1d(use: Use, rows: Rows, product: Product) -> torch.Tensor:
    """GPT-2's layer y = x W + b, the transpose of a linear layer."""
    gradient = use.output_gradient
    if use.name == "bias":
        return gradient[..., rows].sum(1)
    return product(use.inputs[..., rows].transpose(1, 2).to(gradient.dtype), gradient)


def _embedding(use: Use, rows: Rows, product: Product) -> torch.Tensor:
    """Row v of the gradient is the sum of dy_s over the positions s that hold token v."""
    tokens, (samples, _, width) = use.inputs, use.output_gradient.shape
    if isinstance(rows, slice):
        count = rows.stop - rows.start
        index = tokens - rows.start
        index = index.where((index >= 0) & (index < count), count)  # all others in one row more
    else:
        count, index = len(rows), torch.searchsorted(rows, tokens.contiguous())
    index = index + (count + 1) * torch.arange(samples, device=index.device)[:, None]
    result = use.output_gradient.new_zeros(samples * (count + 1), width)
    result.index_add_(0, index.flatten(), use.output_gradient.reshape(-1, width))
    return result.view(samples, count + 1, width)[:, :count]


def _by_autograd(use: Use, rows: Rows, product: Product) -> torch.Tensor:
    """Any other layer (norms, say): vector-Jacobian product of the layer alone, sample by sample, vectorised."""
    value = getattr(use.module, use.name).detach()
    inputs = use.inputs.to(value.dtype) if use.inputs.is_floating_point() else use.inputs

    def one_sample(single_input: torch.Tensor, single_gradient: torch.Tensor) -> torch.Tensor:
        def output(parameter: torch.Tensor) -> torch.Tensor:
            return functional_call(use.module, {use.name: parameter}, (single_input[None],))[0]

        return vjp(output, value)[1](single_gradient)[0]

    return vmap(one_sample)(inputs, use.output_gradient.to(value.dtype))[:, rows]


Rule = Callable[[Use, Rows, Product], torch.Tensor]
RULES: dict[type, Rule] = {torch.nn.Linear: _linear, Conv1D: _conv1d, torch.nn.Embedding: _embedding}
