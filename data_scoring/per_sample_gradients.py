"""Dot product and norm of every sample's gradient from one batched forward and backward pass.

The samples of a batch do not interact, so the gradient of sample i with respect to a layer's weight follows from
row i of the layer's input and of its output gradient. It is formed layer by layer inside the backward pass, reduced
to its dot product with a direction and its squared norm, and freed: the per-sample gradient of the whole model
never exists. The weights themselves take part without requiring gradients, so nothing is computed twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.func import functional_call, vjp, vmap
from transformers.pytorch_utils import Conv1D

from common.tokens import IGNORED, pad

CHUNK = 2**23  # numbers of per-sample gradient that are formed at a time


@dataclass
class Use:
    """One use of a layer in the forward pass: its input and the gradient of the summed loss at its output."""

    module: torch.nn.Module
    parameter: str
    inputs: torch.Tensor  # (batch, ...)
    output_gradient: torch.Tensor  # (batch, ...)

    def gradients(self, samples: slice) -> torch.Tensor:
        """Per-sample gradients of the parameter, (samples, *parameter shape)."""
        rule = RULES.get(type(self.module), _by_autograd)
        return rule(self.module, self.parameter, self.inputs[samples], self.output_gradient[samples])


class PerSampleGradients:
    """Reads per-sample gradients of a causal LM by hooks; a context manager, since hooks must come off again."""

    def __init__(self, model: torch.nn.Module, examples: Sequence[np.ndarray]):
        """examples: a few documents, by which every rule is compared with plain autograd on this very model.

        A parameter that no rule reaches, or reaches wrongly, is read one sample at a time instead, exactly; its name
        is printed.
        """
        self.model = model
        self.parameters = list(model.parameters())
        self.device = self.parameters[0].device
        self.index = {id(p): number for number, p in enumerate(self.parameters)}
        self.modules = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
        owners = [self.index[id(p)] for module in self.modules for p in module.parameters(recurse=False)]
        # A weight in several layers (tied embeddings) is reduced only when all its uses are known.
        self.expected = np.bincount(owners, minlength=len(self.parameters))
        self.waiting: dict[int, list[Use]] = {}
        self.listening = False  # hooks act in the one forward pass that is read, not when a rule runs a layer alone
        self.reading = False  # ... and in the one backward pass of all samples
        self.sums: dict[int, torch.Tensor] | None = None  # gradients summed over samples, while rules are compared
        self.one_by_one: list[int] = []
        self._compare_rules(examples)

    def __enter__(self) -> "PerSampleGradients":
        self.required = [p.requires_grad for p in self.parameters]
        for number, parameter in enumerate(self.parameters):
            parameter.requires_grad_(number in self.one_by_one)
        self.handles = [m.register_forward_hook(self._after_forward, with_kwargs=True) for m in self.modules]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()
        for parameter, required in zip(self.parameters, self.required, strict=True):
            parameter.requires_grad_(required)
            parameter.grad = None

    def dots_and_norms(
        self, documents: Sequence[np.ndarray], direction: Sequence[torch.Tensor] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Dot product with `direction` (zeros for None) and norm of the gradient of each document's mean token loss.

        documents: token ids, at least two each. direction: a tensor for each of `model.parameters()`.
        -> two float64 arrays of (documents,).
        """
        self.direction = direction
        self.dots = torch.zeros(len(documents), dtype=torch.float64, device=self.device)
        self.squares = torch.zeros_like(self.dots)
        self.listening = True
        losses = sample_losses(self.model, documents)
        self.listening = False
        self._read_one_by_one(losses)
        if losses.requires_grad:
            self.reading = True
            losses.sum().backward()
            self.reading = False
        for parameter in list(self.waiting):  # tied, but one of the layers was not used
            self._reduce(parameter)
        return self.dots.cpu().numpy(), self.squares.sqrt().cpu().numpy()

    def _compare_rules(self, examples: Sequence[np.ndarray]) -> None:
        """Find the parameters whose per-sample gradients by rule do not add up to the gradient by autograd."""
        self.sums = {}
        with self:
            self.dots_and_norms(examples, None)
        loss = sample_losses(self.model, examples).sum()
        wanted = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        # Rounding alone can be all there is to a gradient that is zero in theory (of key biases, say).
        noise = 1e-6 * max(gradient.norm() for gradient in wanted)
        for number, gradient in enumerate(wanted):
            formed = self.sums.get(number, torch.zeros_like(gradient).flatten())
            if (formed - gradient.flatten()).norm() > 1e-3 * gradient.norm() + noise:
                self.one_by_one.append(number)
        self.sums = None
        if self.one_by_one:
            names = [name for name, _ in self.model.named_parameters()]
            slow = ", ".join(names[number] for number in self.one_by_one)
            print(f"note: no rule for per-sample gradients of {slow}: read one sample at a time, which is slow")

    def _read_one_by_one(self, losses: torch.Tensor) -> None:
        """Exact gradients of the parameters that no rule reaches, from one backward pass a sample."""
        parameters = [self.parameters[number] for number in self.one_by_one]
        for sample, loss in enumerate(losses if parameters else ()):
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
            for number, gradient in zip(self.one_by_one, gradients, strict=True):
                self._add(number, slice(sample, sample + 1), gradient.reshape(1, -1))

    def _after_forward(self, module: torch.nn.Module, args: tuple, kwargs: dict, output: torch.Tensor) -> None:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        known = len(tensors) == 1 and isinstance(output, torch.Tensor) and len(output) == len(self.dots)
        if self.listening and known:
            if not output.requires_grad:
                output.requires_grad_(True)
            output.register_hook(partial(self._after_backward, module, tensors[0].detach()))

    @torch.no_grad()
    def _after_backward(self, module: torch.nn.Module, inputs: torch.Tensor, gradient: torch.Tensor) -> None:
        for name, parameter in module.named_parameters(recurse=False):
            number = self.index[id(parameter)]
            if not self.reading or number in self.one_by_one:
                continue
            uses = self.waiting.setdefault(number, [])
            uses.append(Use(module, name, inputs, gradient))
            if len(uses) >= self.expected[number]:
                self._reduce(number)

    @torch.no_grad()
    def _reduce(self, number: int) -> None:
        """Form the gradient of one parameter for a few samples at a time, add up its dot products and squares."""
        uses = self.waiting.pop(number)
        step = max(1, CHUNK // self.parameters[number].numel())
        for first in range(0, len(self.dots), step):
            samples = slice(first, first + step)
            gradient = uses[0].gradients(samples)
            for use in uses[1:]:
                gradient += use.gradients(samples)
            self._add(number, samples, gradient.flatten(1))

    def _add(self, number: int, samples: slice, gradient: torch.Tensor) -> None:
        """Add one parameter's part to dots and squares of `samples`; gradient, (samples, numbers), is used up."""
        if self.sums is not None:
            self.sums[number] = self.sums.get(number, 0) + gradient.sum(0)
        # Float64 from tensor to tensor: one float32 sum over a large model loses percents.
        if self.direction is not None:
            self.dots[samples] += (gradient @ self.direction[number].flatten()).double()
        self.squares[samples] += gradient.square_().sum(1).double()


def sample_losses(model: torch.nn.Module, documents: Sequence[np.ndarray]) -> torch.Tensor:
    """Mean token loss (nats) of each document, all tokens but the first given all before. -> (documents,)."""
    device = next(model.parameters()).device
    ids, labels = (torch.from_numpy(array).to(device) for array in pad(documents))
    # Positions for every row: shared ones would mix the samples in the gradient of learned positions.
    positions = torch.arange(ids.shape[1], device=device).expand_as(ids)
    logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    # Labels are shifted rather than logits: a slice of the logits would have to be copied.
    labels = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    ).view(labels.shape)
    return losses.sum(1) / (labels != IGNORED).sum(1)


def _linear(module: torch.nn.Module, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """y = x W^T + b: dW = sum_s dy_s x_s^T, db = sum_s dy_s."""
    return gradient.sum(1) if name == "bias" else gradient.transpose(1, 2) @ inputs


def _conv1d(module: torch.nn.Module, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """GPT-2's layer y = x W + b, the transpose of a linear layer."""
    return gradient.sum(1) if name == "bias" else inputs.transpose(1, 2) @ gradient


def _embedding(module: torch.nn.Module, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Row v of the gradient is the sum of dy_s over the positions s that hold token v."""
    count, (rows, width) = len(inputs), module.weight.shape
    result = gradient.new_zeros(count * rows, width)
    flat = inputs + rows * torch.arange(count, device=inputs.device)[:, None]
    return result.index_add_(0, flat.flatten(), gradient.reshape(-1, width)).view(count, rows, width)


def _by_autograd(module: torch.nn.Module, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Any other layer (norms, say): vector-Jacobian product of the layer alone, sample by sample, vectorised."""
    value = getattr(module, name).detach()

    def one_sample(single_input: torch.Tensor, single_gradient: torch.Tensor) -> torch.Tensor:
        def output(parameter: torch.Tensor) -> torch.Tensor:
            return functional_call(module, {name: parameter}, (single_input[None],))[0]

        return vjp(output, value)[1](single_gradient)[0]

    return vmap(one_sample)(inputs, gradient)


Rule = Callable[[torch.nn.Module, str, torch.Tensor, torch.Tensor], torch.Tensor]
RULES: dict[type, Rule] = {torch.nn.Linear: _linear, Conv1D: _conv1d, torch.nn.Embedding: _embedding}
