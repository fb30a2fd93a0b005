"""Dot product and norm of every sample's gradient from one batched forward and backward pass.

The samples of a batch do not interact, so the gradient of sample i with respect to a layer's weight follows from
row i of the layer's input and of its output gradient. It is formed layer by layer inside the backward pass, reduced
to its dot product with a direction and its squared norm, and freed: the per-sample gradient of the whole model
never exists, nor do the logits of the whole batch. The weights themselves take part without requiring gradients, so
nothing is computed twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, vjp, vmap
from transformers.pytorch_utils import Conv1D

from common.likelihood import plain_head
from common.tokens import IGNORED, pad

CHUNK = 2**22  # numbers of per-sample gradients, or of logits, that are formed at a time


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


@dataclass
class HeadUse:
    """The use of the output layer: the gradient at its logits is formed anew for the samples that are wanted."""

    head: torch.nn.Linear
    parameter: str
    inputs: torch.Tensor  # (batch, tokens, width), last hidden states
    labels: torch.Tensor  # (batch, tokens)

    def gradients(self, samples: slice) -> torch.Tensor:
        """Per-sample gradients of the parameter, (samples, *parameter shape)."""
        gradient = head_gradient(self.head, self.inputs[samples], self.labels[samples])
        return _linear(self.head, self.parameter, self.inputs[samples], gradient)


class PerSampleGradients:
    """Reads per-sample gradients of a causal LM by hooks; a context manager, since hooks must come off again."""

    def __init__(self, model: torch.nn.Module, examples: Sequence[np.ndarray], autocast: torch.dtype | None = None):
        """examples: a few documents, by which every rule is compared with plain autograd on this very model.

        A parameter that no rule reaches, or reaches wrongly, is read one sample at a time instead, exactly; its name
        is printed. autocast: bfloat16 for the layers' products of weights and activations; sums stay as the weights.
        """
        self.model, self.autocast = model, None
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
        self.missing: list[torch.Tensor] | None = None  # while rules are compared: gradients that they have not found
        self.one_by_one: list[int] = []
        self.head = plain_head(model)
        self._compare_rules(examples)
        self.autocast = autocast

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
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            outputs, slopes = self._forward(documents)
        self._read_one_by_one(outputs, slopes)
        if outputs.requires_grad:
            self.reading = True
            outputs.backward(slopes)
            self.reading = False
        for parameter in list(self.waiting):  # tied, but one of the layers was not used
            self._reduce(parameter)
        return self.dots.cpu().numpy(), self.squares.sqrt().cpu().numpy()

    def _forward(self, documents: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Something with one row a sample, (documents, ...), and the gradient of the summed losses at it.

        That is the last hidden states, with the output layer read on the way, or else the losses themselves.
        """
        self.listening = True
        if self.head is None:
            outputs = sample_losses(self.model, documents)
            slopes = torch.ones_like(outputs)
        else:
            inputs, labels = model_inputs(documents, self.device)
            outputs = self.model.base_model(**inputs).last_hidden_state
            slopes = self._read_head(outputs.detach(), labels)
        self.listening = False
        return outputs, slopes

    @torch.no_grad()
    def _read_head(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Read the output layer; -> the gradient of the summed losses at the hidden states."""
        slopes = torch.empty_like(hidden)
        numbers = {name: self.index[id(p)] for name, p in self.head.named_parameters(recurse=False)}
        tied = {name for name, number in numbers.items() if self.expected[number] > 1}
        step = max(1, CHUNK // (labels.shape[1] * self.head.out_features))
        for first in range(0, len(hidden), step):
            some = slice(first, first + step)
            gradient = head_gradient(self.head, hidden[some], labels[some])
            slopes[some] = gradient.to(hidden.dtype) @ self.head.weight.to(hidden.dtype)
            for name in numbers.keys() - tied:
                self._add_by_rows(numbers[name], some, name, hidden[some], gradient)
        for name in tied:
            self._use(numbers[name], HeadUse(self.head, name, hidden, labels))
        return slopes

    def _add_by_rows(
        self, number: int, samples: slice, name: str, hidden: torch.Tensor, gradient: torch.Tensor
    ) -> None:
        """Form the gradient of the output layer for a few rows of its weight at a time: it can be as large as all else.

        gradient: (samples, tokens, vocabulary), at the logits.
        """
        per_row = len(hidden) * (hidden.shape[-1] if name == "weight" else 1)
        step = max(1, CHUNK // per_row)
        for first in range(0, gradient.shape[-1], step):
            part = _linear(self.head, name, hidden, gradient[..., first : first + step])
            self._add(number, samples, part.flatten(1), first * part[0, 0].numel())

    def _compare_rules(self, examples: Sequence[np.ndarray]) -> None:
        """Find the parameters whose per-sample gradients by rule do not add up to the gradient by autograd."""
        loss = sample_losses(self.model, examples).sum()
        wanted = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        sizes = [gradient.norm() for gradient in wanted]
        self.missing = [gradient.flatten() for gradient in wanted]
        with self:
            self.dots_and_norms(examples, None)
        # Rounding alone can be all there is to a gradient that is zero in theory (of key biases, say).
        noise = 1e-6 * max(sizes)
        for number, (missing, size) in enumerate(zip(self.missing, sizes, strict=True)):
            if missing.norm() > 1e-3 * size + noise:
                self.one_by_one.append(number)
        self.missing = None
        if self.one_by_one:
            self.head = None
            names = [name for name, _ in self.model.named_parameters()]
            slow = ", ".join(names[number] for number in self.one_by_one)
            print(f"note: no rule for per-sample gradients of {slow}: read one sample at a time, which is slow")

    def _read_one_by_one(self, outputs: torch.Tensor, slopes: torch.Tensor) -> None:
        """Exact gradients of the parameters that no rule reaches, from one backward pass a sample."""
        parameters = [self.parameters[number] for number in self.one_by_one]
        for sample in range(len(outputs) if parameters else 0):
            gradients = torch.autograd.grad(
                outputs[sample], parameters, slopes[sample], retain_graph=True, materialize_grads=True
            )
            for number, gradient in zip(self.one_by_one, gradients, strict=True):
                self._add(number, slice(sample, sample + 1), gradient.reshape(1, -1))

    def _after_forward(self, module: torch.nn.Module, args: tuple, kwargs: dict, output: torch.Tensor) -> None:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        known = len(tensors) == 1 and isinstance(output, torch.Tensor) and len(output) == len(self.dots)
        if self.listening and known:
            if not output.requires_grad:
                output.requires_grad_(True)
            output.register_hook(partial(self._after_backward, module, [tensors[0].detach()]))

    @torch.no_grad()
    def _after_backward(self, module: torch.nn.Module, held: list[torch.Tensor], gradient: torch.Tensor) -> None:
        """held: the layer's input, taken out here so that it can be freed before the whole backward pass is over."""
        if not self.reading:
            return
        inputs = held.pop()
        for name, parameter in module.named_parameters(recurse=False):
            self._use(self.index[id(parameter)], Use(module, name, inputs, gradient))

    def _use(self, number: int, use: Use | HeadUse) -> None:
        """Reduce a parameter as soon as all its uses are known."""
        if number in self.one_by_one:
            return
        self.waiting.setdefault(number, []).append(use)
        if len(self.waiting[number]) >= self.expected[number]:
            self._reduce(number)

    @torch.no_grad()
    def _reduce(self, number: int) -> None:
        """Form the gradient of one parameter for a few samples at a time, add up its dot products and squares."""
        uses = self.waiting.pop(number)
        step = max(1, CHUNK // self.parameters[number].numel())
        for first in range(0, len(self.dots), step):
            samples = slice(first, first + step)
            gradient = uses[0].gradients(samples).to(self.parameters[number].dtype)
            for use in uses[1:]:
                gradient += use.gradients(samples)
            self._add(number, samples, gradient.flatten(1))

    def _add(self, number: int, samples: slice, gradient: torch.Tensor, first: int = 0) -> None:
        """Add to dots and squares of `samples` the numbers from `first` on of one parameter's gradient.

        gradient, (samples, numbers), is used up.
        """
        numbers = slice(first, first + gradient.shape[1])
        if self.missing is not None:
            self.missing[number][numbers] -= gradient.sum(0)
        # Float64 from tensor to tensor: one float32 sum over a large model loses percents.
        if self.direction is not None:
            self.dots[samples] += (gradient @ self.direction[number].flatten()[numbers]).double()
        self.squares[samples] += gradient.square_().sum(1).double()


def sample_losses(model: torch.nn.Module, documents: Sequence[np.ndarray]) -> torch.Tensor:
    """Mean token loss (nats) of each document, all tokens but the first given all before. -> (documents,)."""
    inputs, labels = model_inputs(documents, next(model.parameters()).device)
    logits = model(**inputs).logits
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    ).view(labels.shape)
    return losses.sum(1) / (labels != IGNORED).sum(1)


def model_inputs(documents: Sequence[np.ndarray], device: torch.device) -> tuple[dict[str, Any], torch.Tensor]:
    """Padded input of the model, and the token that is to be predicted at each position, (documents, tokens).

    Labels are shifted rather than logits: a slice of the logits would have to be copied.
    """
    ids, labels = (torch.from_numpy(array).to(device) for array in pad(documents))
    # Positions for every row: shared ones would mix the samples in the gradient of learned positions.
    positions = torch.arange(ids.shape[1], device=device).expand_as(ids)
    labels = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    return {"input_ids": ids, "position_ids": positions, "use_cache": False}, labels


@torch.no_grad()
def head_gradient(head: torch.nn.Linear, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Gradient at the logits of each sample's mean token loss: softmax - one-hot, over the token count.

    hidden: (batch, tokens, width); labels: (batch, tokens). -> (batch, tokens, vocabulary).
    """
    logits = head(hidden)
    gradient = torch.softmax(logits if logits.dtype == torch.float64 else logits.float(), -1)
    targets = labels.clamp_min(0)[..., None]
    gradient.scatter_add_(-1, targets, -torch.ones_like(targets, dtype=gradient.dtype))
    counted = (labels != IGNORED).to(gradient.dtype)
    return gradient.mul_((counted / counted.sum(1, keepdim=True))[..., None])


def _linear(module: torch.nn.Module, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """y = x W^T + b: dW = sum_s dy_s x_s^T, db = sum_s dy_s."""
    return gradient.sum(1) if name == "bias" else gradient.transpose(1, 2) @ inputs.to(gradient.dtype)


def _conv1d(module: torch.nn.Module, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """GPT-2's layer y = x W + b, the transpose of a linear layer."""
    return gradient.sum(1) if name == "bias" else inputs.transpose(1, 2).to(gradient.dtype) @ gradient


def _embedding(module: torch.nn.Module, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Row v of the gradient is the sum of dy_s over the positions s that hold token v."""
    count, (rows, width) = len(inputs), module.weight.shape
    result = gradient.new_zeros(count * rows, width)
    flat = inputs + rows * torch.arange(count, device=inputs.device)[:, None]
    return result.index_add_(0, flat.flatten(), gradient.reshape(-1, width)).view(count, rows, width)


def _by_autograd(module: torch.nn.Module, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Any other layer (norms, say): vector-Jacobian product of the layer alone, sample by sample, vectorised."""
    value = getattr(module, name).detach()
    inputs = inputs.to(value.dtype) if inputs.is_floating_point() else inputs

    def one_sample(single_input: torch.Tensor, single_gradient: torch.Tensor) -> torch.Tensor:
        def output(parameter: torch.Tensor) -> torch.Tensor:
            return functional_call(module, {name: parameter}, (single_input[None],))[0]

        return vjp(output, value)[1](single_gradient)[0]

    return vmap(one_sample)(inputs, gradient.to(value.dtype))


Rule = Callable[[torch.nn.Module, str, torch.Tensor, torch.Tensor], torch.Tensor]
RULES: dict[type, Rule] = {torch.nn.Linear: _linear, Conv1D: _conv1d, torch.nn.Embedding: _embedding}
