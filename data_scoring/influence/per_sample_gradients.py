"""Dot product and norm of every sample's gradient from one batched forward and backward pass.

The samples of a batch do not interact, so the gradient of sample i with respect to a layer's weight follows from
row i of the layer's input and of its output gradient. It is formed layer by layer inside the backward pass, reduced
to its dot product with a direction and its squared norm, and freed: the per-sample gradient of the whole model
never exists, nor do the logits of the whole batch. The weights themselves take part without requiring gradients, so
nothing is computed twice.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from common.likelihood import plain_head
from common.tokens import IGNORED, pad
from data_scoring.influence.gradient_rules import HeadUse, ReusedProduct, Rows, Use, head_gradient

CHUNK = 2**22  # numbers of per-sample gradients, or of logits, that are formed at a time


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
        self.waiting: dict[int, list[Use | HeadUse]] = {}
        self.product = ReusedProduct()
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
                self._add_up(numbers[name], some, [Use(self.head, name, hidden[some], gradient)])
        for name in tied:
            self._use(numbers[name], HeadUse(self.head, name, hidden, labels))
        return slopes

    def _compare_rules(self, examples: Sequence[np.ndarray]) -> None:
        """Find the parameters whose per-sample gradients by rule do not add up to the gradient by autograd."""
        loss = sample_losses(self.model, examples).sum()
        wanted = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        sizes = [gradient.norm() for gradient in wanted]
        self.missing = [gradient.clone() for gradient in wanted]
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
                self._add(number, slice(sample, sample + 1), slice(None), gradient[None])

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
            self._add_up(number, samples, [use.of(samples) for use in uses])

    def _add_up(self, number: int, samples: slice, uses: list[Use]) -> None:
        """The same for `samples`, whose uses of the parameter these are, and a few of its rows at a time."""
        first, *others = uses
        for rows in self._row_blocks(number, uses):
            gradient = first.gradients(rows, self.product)
            for use in others:
                gradient += use.gradients(rows)
            self._add(number, samples, rows, gradient)

    def _row_blocks(self, number: int, uses: list[Use]) -> Iterator[Rows]:
        """Rows that are formed together; of an embedding that is not tied only those of the tokens."""
        if len(uses) == 1 and isinstance(uses[0].module, torch.nn.Embedding):
            yield uses[0].inputs.unique()
            return
        shape = self.parameters[number].shape
        step = max(1, CHUNK // (len(uses[0].inputs) * shape[1:].numel()))
        for first in range(0, shape[0], step):
            yield slice(first, min(first + step, shape[0]))

    def _add(self, number: int, samples: slice, rows: Rows, gradient: torch.Tensor) -> None:
        """Add to dots and squares of `samples` these rows of one parameter's gradient, (samples, rows, ...)."""
        gradient = gradient.to(self.parameters[number].dtype)
        if self.missing is not None:
            self.missing[number][rows] -= gradient.sum(0)
        # Float64 from row to row and tensor to tensor: one float32 sum over a large model loses percents.
        if self.direction is not None:
            self.dots[samples] += (gradient.flatten(1) @ self.direction[number][rows].flatten()).double()
        norms = torch.linalg.vector_norm(gradient, dim=-1).double()
        self.squares[samples] += norms.square().view(len(gradient), -1).sum(1)


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
