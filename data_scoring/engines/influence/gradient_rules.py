"""Per-sample gradients of one layer's parameters, from its inputs and the gradient of the summed loss at its outputs.

A rule gives any rows of the gradient of a weight, so that a large one is formed and reduced piece by piece. A layer
without a rule is differentiated alone, sample by sample, whatever it computes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.func import functional_call, vjp, vmap
from transformers.pytorch_utils import Conv1D

from data_common.messages.errors import is_of_memory
from data_common.models.tokens import IGNORED
from data_scoring.engines.influence.layer_arguments import OfSamples, again, take, tensors

Rows = slice | torch.Tensor  # of a parameter along its first dimension: from start to stop, or indices in order
Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass
class Use:
    """One use of a layer in the forward pass."""

    module: torch.nn.Module
    name: str  # of the layer's parameter
    arguments: tuple  # of the layer, as `record` has them
    keywords: dict[str, Any]
    output_gradient: torch.Tensor  # (samples, ...)

    @property
    def inputs(self) -> torch.Tensor | None:
        """The tensor that the layer was given, (samples, ...); None where it was given several."""
        given = list(tensors((self.arguments, tuple(self.keywords.values()))))
        return given[0].values if len(given) == 1 and isinstance(given[0], OfSamples) else None

    def of(self, samples: slice) -> "Use":
        """The use by some of the samples."""
        arguments, keywords = take(self.arguments, samples), take(self.keywords, samples)
        return Use(self.module, self.name, arguments, keywords, self.output_gradient[samples])

    def has_rule(self) -> bool:
        """Whether a few rows of the gradient can be had without the others."""
        return type(self.module) in RULES

    def gradients(self, rows: Rows, product: Product = torch.matmul) -> torch.Tensor:
        """Gradient of each sample at these rows of the parameter, (samples, rows, ...)."""
        return RULES[type(self.module)](self, rows, product) if self.has_rule() else _by_autograd(self)[:, rows]


@dataclass
class HeadUse:
    """The use of the output layer, whose output gradient is too large to be held for all samples."""

    head: torch.nn.Linear
    name: str
    hidden: torch.Tensor  # (samples, tokens, width)
    labels: torch.Tensor  # (samples, tokens)

    def has_rule(self) -> bool:
        """As of `Use`."""
        return True

    def of(self, samples: slice) -> Use:
        """The use by some of the samples; the gradient at their logits is formed here."""
        hidden = self.hidden[samples]
        return head_use(self.head, self.name, hidden, head_gradient(self.head, hidden, self.labels[samples]))


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


def head_use(head: torch.nn.Linear, name: str, hidden: torch.Tensor, gradient: torch.Tensor) -> Use:
    """The use of the output layer by samples whose logits have this gradient."""
    return Use(head, name, (OfSamples(hidden),), {}, gradient)


def _by_autograd(use: Use) -> torch.Tensor:
    """Gradient of each sample by differentiating the layer alone, (samples, *shape of the parameter)."""
    if use.inputs is not None and type(use.module) not in _one_by_one:
        try:
            return _vectorised(use, use.inputs)
        except RuntimeError as error:
            if is_of_memory(error):
                raise
            _one_by_one.add(type(use.module))  # it does what depends on the data, or writes in place
    samples = [use.of(slice(number, number + 1)) for number in range(len(use.output_gradient))]
    return torch.stack([_of_one_sample(sample) for sample in samples])


_one_by_one: set[type] = set()  # kinds of layers that torch cannot vectorise over samples


def _vectorised(use: Use, inputs: torch.Tensor) -> torch.Tensor:
    value = getattr(use.module, use.name).detach()

    def one_sample(single_input: torch.Tensor, single_gradient: torch.Tensor) -> torch.Tensor:
        def output(parameter: torch.Tensor) -> torch.Tensor:
            return first_tensor(functional_call(use.module, {use.name: parameter}, (single_input[None],)))[0]

        return vjp(output, value)[1](single_gradient)[0]

    return vmap(one_sample)(again(inputs, value.dtype), use.output_gradient.to(value.dtype))


def _of_one_sample(use: Use) -> torch.Tensor:
    value = getattr(use.module, use.name).detach().requires_grad_()
    arguments, keywords = again(use.arguments, value.dtype), again(use.keywords, value.dtype)
    with torch.enable_grad():
        output = first_tensor(functional_call(use.module, {use.name: value}, arguments, keywords))
    (gradient,) = torch.autograd.grad(output, value, use.output_gradient.to(output.dtype).view_as(output))
    return gradient


def first_tensor(output: Any) -> Any:
    """A layer's output, or the first of several (attention gives its weights too)."""
    return output[0] if isinstance(output, tuple) and output else output


def _linear(use: Use, rows: Rows, product: Product) -> torch.Tensor:
    """y = x W^T + b: dW = sum_s dy_s x_s^T, db = sum_s dy_s."""
    gradient = _of_positions(use.output_gradient)[..., rows]
    if use.name == "bias":
        return gradient.sum(1)
    return product(gradient.transpose(1, 2), _of_positions(use.inputs).to(gradient.dtype))


def _conv1d(use: Use, rows: Rows, product: Product) -> torch.Tensor:
    """GPT-2's layer y = x W + b, the transpose of a linear layer."""
    gradient = _of_positions(use.output_gradient)
    if use.name == "bias":
        return gradient[..., rows].sum(1)
    return product(_of_positions(use.inputs)[..., rows].transpose(1, 2).to(gradient.dtype), gradient)


def _of_positions(values: torch.Tensor) -> torch.Tensor:
    """Values of a layer that is used at each position, head, ... by itself: (samples, positions, width)."""
    return values.reshape(len(values), -1, values.shape[-1])


def _embedding(use: Use, rows: Rows, product: Product) -> torch.Tensor:
    """Row v of the gradient is the sum of dy_s over the positions s that hold token v; 0 for the padding token."""
    width = use.output_gradient.shape[-1]
    tokens = use.inputs.reshape(len(use.inputs), -1)
    if isinstance(rows, slice):
        count = rows.stop - rows.start
        index = tokens - rows.start
        index = index.where((index >= 0) & (index < count), count)  # all others in one row more
    else:
        count, index = len(rows), torch.searchsorted(rows, tokens.contiguous())
    if use.module.padding_idx is not None:
        index = index.where(tokens != use.module.padding_idx, count)
    index = index + (count + 1) * torch.arange(len(tokens), device=index.device)[:, None]
    result = use.output_gradient.new_zeros(len(tokens) * (count + 1), width)
    result.index_add_(0, index.flatten(), use.output_gradient.reshape(-1, width))
    return result.view(len(tokens), count + 1, width)[:, :count]


Rule = Callable[[Use, Rows, Product], torch.Tensor]
RULES: dict[type, Rule] = {torch.nn.Linear: _linear, Conv1D: _conv1d, torch.nn.Embedding: _embedding}
