"""Dot product and norm of every sample's gradient from one batched forward and backward pass.

The samples of a batch do not interact, so the gradient of sample i with respect to a layer's weight follows from
row i of the layer's input and of its output gradient. It is formed layer by layer inside the backward pass, reduced
to its dot product with a direction and its squared norm, and freed: the per-sample gradient of the whole model never
exists, nor do the logits of the whole batch. Weights do not require gradients: nothing is computed twice.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from data_common.messages.errors import is_of_memory
from data_common.models.likelihood import plain_head
from data_common.models.tokens import IGNORED, pad
from data_common.models.traits import states_of, trained, traits
from data_scoring.engines.influence.gradient_rules import (
    HeadUse,
    ReusedProduct,
    Rows,
    Use,
    first_tensor,
    head_gradient,
    head_use,
)
from data_scoring.engines.influence.layer_arguments import of_samples, record
from data_scoring.engines.influence.rule_comparison import Comparison, tried

CHUNK = 2**22  # numbers of per-sample gradients, or of logits, that are formed at a time


class PerSampleGradients:
    """Reads per-sample gradients of a causal LM by hooks; a context manager, since hooks must come off again."""

    def __init__(self, model: torch.nn.Module, examples: Sequence[np.ndarray], autocast: torch.dtype | None = None):
        """examples: a few documents, by which every rule is compared with plain autograd on this very model.

        A parameter that no rule reaches, or reaches wrongly, is read one sample at a time instead, exactly; its name
        is printed. autocast: bfloat16 for the layers' products of weights and activations; sums stay as the weights.
        """
        self.model, self.autocast = model, None
        self.parameters = trained(model)
        self.device = self.parameters[0].device
        self.index = {id(p): number for number, p in enumerate(self.parameters)}
        self.names = {self.index[id(p)]: name for name, p in model.named_parameters() if id(p) in self.index}
        self.modules = [m for m in model.modules() if self._own(m)]
        # A weight that is used several times (tied embeddings, a layer in a loop) is reduced when all uses are known.
        self.coming: Counter[int] = Counter()
        self.waiting: dict[int, list[Use | HeadUse]] = {}
        self.product = ReusedProduct()
        self.listening = False  # hooks act in the one forward pass that is read, not when a rule runs a layer alone
        self.reading = False  # ... and in the one backward pass of all samples
        self.one_by_one: set[int] = set()
        self.unreached: set[int] = set()  # of this pass: parameters of a layer that no rule can read
        self.untried: set[int] = set()  # parameters of layers that no sample used when rules were compared
        self.comparison: Comparison | None = None  # while rules are compared
        self.head = plain_head(model)
        self._compare_rules(examples)
        self.autocast = autocast

    def __enter__(self) -> "PerSampleGradients":
        for number, parameter in enumerate(self.parameters):
            parameter.requires_grad_(number in self.one_by_one)
        self.handles = [m.register_forward_hook(self._after_forward, with_kwargs=True) for m in self.modules]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()
        for parameter in self.parameters:
            parameter.requires_grad_(True)
            parameter.grad = None

    def dots_and_norms(
        self, documents: Sequence[np.ndarray], direction: Sequence[torch.Tensor] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Dot product with `direction` (zeros for None) and norm of the gradient of each document's mean token loss.

        documents: token ids, at least two each. direction: a tensor for each of `trained(model)`.
        -> two float64 arrays of (documents,).
        """
        if len(documents) == max(map(len, documents)):  # then a dimension could be that of samples or of tokens
            parts = [self.dots_and_norms(part, direction) for part in (documents[:1], documents[1:])]
            return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        self.direction = direction
        while not self._read(documents):
            self._read_slowly(self.unreached)
        return self.dots.cpu().numpy(), self.squares.sqrt().cpu().numpy()

    def _read(self, documents: Sequence[np.ndarray]) -> bool:
        """One forward and backward pass. -> whether every parameter was read, by its rule or one sample at a time."""
        self.dots = torch.zeros(len(documents), dtype=torch.float64, device=self.device)
        self.squares = torch.zeros_like(self.dots)
        self.longest = max(map(len, documents))
        self.coming.clear(), self.waiting.clear(), self.unreached.clear()
        if self.comparison:
            self.comparison.begin()
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            outputs, slopes = self._forward(documents)
        if self.unreached:
            return False
        self._read_one_by_one(outputs, slopes)
        if outputs.requires_grad:
            self.reading = True
            outputs.backward(slopes)
            self.reading = False
        for parameter in list(self.waiting):  # used, but not for these losses
            self._reduce(parameter)
        return not self.unreached

    def _forward(self, documents: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Per-sample losses or hidden states, (documents, ...), and the gradient of the summed losses at them.

        Last hidden states where the head is read separately, with the output layer read on the way; else losses.
        """
        self.listening = True
        if self.head is None or self.one_by_one & {self.index.get(id(p)) for p in self.head.parameters()}:
            outputs = sample_losses(self.model, documents)
            slopes = torch.ones_like(outputs)
        else:
            inputs, labels = model_inputs(documents, self.device, traits(self.model).positions)
            outputs = states_of(self.model.base_model(**inputs))
            slopes = self._read_head(outputs.detach(), labels)
        self.listening = False
        return outputs, slopes

    @torch.no_grad()
    def _read_head(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Read the output layer; -> the gradient of the summed losses at the hidden states."""
        slopes = torch.empty_like(hidden)
        numbers = self._own(self.head)
        tied = {name for name, number in numbers.items() if self.coming[number]}
        step = max(1, CHUNK // (labels.shape[1] * self.head.out_features))
        for first in range(0, len(hidden), step):
            some = slice(first, first + step)
            gradient = head_gradient(self.head, hidden[some], labels[some])
            slopes[some] = gradient.to(hidden.dtype) @ self.head.weight.to(hidden.dtype)
            for name in numbers.keys() - tied:
                self._add_up(numbers[name], some, [head_use(self.head, name, hidden[some], gradient)])
        for name in tied:
            self.coming[numbers[name]] += 1
            self._use(numbers[name], HeadUse(self.head, name, hidden, labels))
        return slopes

    def _compare_rules(self, examples: Sequence[np.ndarray]) -> None:
        """Find the parameters whose per-sample gradients by rule are not those by autograd, of each sample alone."""
        documents = tried(self.model, examples)
        self.comparison = Comparison(map(self._alone, documents))
        with self:
            self.dots_and_norms(documents, None)
        head = self._own(self.head).values() if self.head is not None else ()
        unread = self.names.keys() - {*self.coming, *head}
        # A weight that another layer multiplies by itself has a gradient, be it ever so small, and no use.
        elsewhere = {number for number in unread if self.comparison.wanted[number].any()}
        wrong = (self.comparison.wrong() | elsewhere) - self.one_by_one
        self.comparison, self.untried = None, unread - wrong
        self._read_slowly(wrong)

    def _alone(self, document: np.ndarray) -> Sequence[torch.Tensor]:
        """The gradient of the loss of one document by autograd."""
        return torch.autograd.grad(sample_losses(self.model, [document])[0], self.parameters, materialize_grads=True)

    def _read_slowly(self, numbers: set[int]) -> None:
        self.one_by_one |= numbers
        if numbers:
            for number in numbers:
                self.parameters[number].requires_grad_(True)
            slow = ", ".join(self.names[number] for number in sorted(numbers))
            print(f"note: no rule for per-sample gradients of {slow}: read one sample at a time, which is slow")

    def _read_one_by_one(self, outputs: torch.Tensor, slopes: torch.Tensor) -> None:
        """Exact gradients of the parameters that no rule reaches, from one backward pass a sample."""
        numbers = sorted(self.one_by_one)
        parameters = [self.parameters[number] for number in numbers]
        for sample in range(len(outputs) if parameters else 0):
            gradients = torch.autograd.grad(
                outputs[sample], parameters, slopes[sample], retain_graph=True, materialize_grads=True
            )
            for number, gradient in zip(numbers, gradients, strict=True):
                self._add(number, slice(sample, sample + 1), slice(None), gradient[None])

    def _own(self, layer: torch.nn.Module) -> dict[str, int]:
        """Name -> number of the parameters of the layer itself that are trained."""
        return {name: self.index[id(p)] for name, p in layer.named_parameters(recurse=False) if id(p) in self.index}

    def _after_forward(self, module: torch.nn.Module, args: tuple, kwargs: dict, whole: Any) -> torch.Tensor | None:
        """Ask for the gradient at a layer's output. -> what takes the place of it, where anything does."""
        numbers = {name: number for name, number in self._own(module).items() if number not in self.one_by_one}
        if not self.listening or not torch.is_grad_enabled() or not numbers:
            return None
        output, shape = first_tensor(whole), (len(self.dots), self.longest)
        unknown = not isinstance(output, torch.Tensor) or of_samples(output, *shape) is None
        if unknown or not self.untried.isdisjoint(numbers.values()):
            self.unreached |= set(numbers.values())
            return None
        self.coming.update(numbers.values())
        first = not output.requires_grad
        output.requires_grad_(True)
        given = record((args, tuple(kwargs.values())), *shape)
        output.register_hook(partial(self._after_backward, module, numbers, [(given, tuple(kwargs))]))
        return output.clone() if first and isinstance(whole, torch.Tensor) else None  # it may be written to

    @torch.no_grad()
    def _after_backward(
        self, module: torch.nn.Module, numbers: dict[str, int], held: list[tuple], gradient: torch.Tensor
    ) -> None:
        """held: what the layer was given, taken out here so that it can be freed before the backward pass is over."""
        if not self.reading:
            return
        (arguments, values), names = held.pop()
        keywords = dict(zip(names, values, strict=True))
        gradient = of_samples(gradient, len(self.dots), self.longest).values
        for name, number in numbers.items():
            self._use(number, Use(module, name, arguments, keywords, gradient))

    def _use(self, number: int, use: Use | HeadUse) -> None:
        """Reduce a parameter as soon as all its uses are known."""
        if number in self.one_by_one:
            return
        self.waiting.setdefault(number, []).append(use)
        if len(self.waiting[number]) >= self.coming[number]:
            self._reduce(number)

    @torch.no_grad()
    def _reduce(self, number: int) -> None:
        """Form the gradient of one parameter for a few samples at a time, add up its dot products and squares."""
        uses = self.waiting.pop(number)
        step = max(1, CHUNK // self.parameters[number].numel())
        for first in range(0, len(self.dots), step):
            samples = slice(first, first + step)
            try:
                self._add_up(number, samples, [use.of(samples) for use in uses])
            except Exception as error:  # whatever a layer may do when it is run alone
                if is_of_memory(error):
                    raise
                self.unreached.add(number)
                return

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
        shape = self.parameters[number].shape
        if not all(use.has_rule() for use in uses):
            yield slice(0, shape[0])
        elif len(uses) == 1 and isinstance(uses[0].module, torch.nn.Embedding):
            yield uses[0].inputs.unique()
        else:
            step = max(1, CHUNK // (len(uses[0].output_gradient) * shape[1:].numel()))
            for first in range(0, shape[0], step):
                yield slice(first, min(first + step, shape[0]))

    def _add(self, number: int, samples: slice, rows: Rows, gradient: torch.Tensor) -> None:
        """Add to dots and squares of `samples` these rows of one parameter's gradient, (samples, rows, ...)."""
        gradient = gradient.to(self.parameters[number].dtype)
        # Float64 from row to row and tensor to tensor: one float32 sum over a large model loses percents.
        if self.direction is not None:
            self.dots[samples] += (gradient.flatten(1) @ self.direction[number][rows].flatten()).double()
        norms = torch.linalg.vector_norm(gradient, dim=-1).double()
        squares = norms.square().view(len(gradient), -1).sum(1)
        self.squares[samples] += squares
        if self.comparison is not None:
            self.comparison.add(number, samples, rows, gradient, squares)


def sample_losses(model: torch.nn.Module, documents: Sequence[np.ndarray]) -> torch.Tensor:
    """Mean token loss (nats) of each document, all tokens but the first given all before. -> (documents,)."""
    inputs, labels = model_inputs(documents, next(model.parameters()).device, traits(model).positions)
    logits = states_of(model(**inputs))
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    ).view(labels.shape)
    return losses.sum(1) / (labels != IGNORED).sum(1)


def model_inputs(
    documents: Sequence[np.ndarray], device: torch.device, positions: bool
) -> tuple[dict[str, Any], torch.Tensor]:
    """Padded input of the model, and the token that is to be predicted at each position, (documents, tokens).

    positions: whether the model takes positions from 0.
    Labels are shifted rather than logits: a slice of the logits would have to be copied.
    """
    ids, labels = (torch.from_numpy(array).to(device) for array in pad(documents))
    inputs: dict[str, Any] = {"input_ids": ids, "use_cache": False}
    if positions:  # for every row: shared ones would mix the samples in the gradient of learned positions
        inputs["position_ids"] = torch.arange(ids.shape[1], device=device).expand_as(ids)
    return inputs, torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
