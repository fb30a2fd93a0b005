"""The simulated training of the annotator, forward, and its co-states, backward (PDS, arXiv 2410.07064, section 2).

    forward   theta_{t+1} = theta_t - eta grad L_t(theta_t)                               t = 0 .. T-1
    reverse   lambda_T = grad J(theta_T)
              lambda_t = lambda_{t+1} + grad J(theta_t) - eta H_t(theta_t) lambda_{t+1}

L_t is the mean loss of the t-th mini-batch of the corpus (rows in file order, starting over at the end), H_t its
Hessian, J the mean loss of the target set; the loss of a sample is its mean token loss.

The forward pass stores a state on disk every sqrt(T) steps; the reverse pass trains again from one stored state to
the next, so that it holds about sqrt(T) states in memory instead of T.
"""

import contextlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from common.errors import UserError
from common.tokens import TokenStore, token_budget_batches
from data_scoring.per_sample_gradients import PerSampleGradients, sample_losses

Tensors = list[torch.Tensor]
DIFFERENCE = 1e-4  # step of a finite difference as a share of |theta|


@dataclass(frozen=True)
class Trajectory:
    """`steps` T of plain SGD with learning rate eta on batches of `batch_size` samples."""

    steps: int
    learning_rate: float
    batch_size: int
    batch_tokens: int  # padded tokens of one forward and backward pass
    hessian: Literal["exact", "finite-difference", "none"] = "exact"

    @contextlib.contextmanager
    def forward(self, model: torch.nn.Module, corpus: TokenStore) -> Iterator["StoredStates"]:
        """Train; yield theta at every ceil(sqrt(T))-th step, on disk until the context ends.

        Raises: UserError at the step where the loss is no longer finite, or where the disk is full.
        """
        with tempfile.TemporaryDirectory(prefix="delt-states-") as folder:
            states = StoredStates(Path(folder), math.isqrt(self.steps - 1) + 1)
            for step in tqdm(range(self.steps), desc="forward", unit="step", disable=None):
                if step % states.every == 0:
                    states.save(step, model)
                self.train_step(model, corpus, step)
            yield states

    def co_states(
        self, model: torch.nn.Module, states: "StoredStates", corpus: TokenStore, target: TokenStore
    ) -> Iterator[tuple[int, Tensors | None]]:
        """Yield (t, lambda_{t+1}) for t = T .. 0, with the model at theta_t; there is none for t = T.

        The model must be at theta_T at the start, as `forward` leaves it.
        """
        samples = list(target)
        yield self.steps, None
        _, co_state = mean_loss_gradient(model, samples, self.batch_tokens)
        for step in tqdm(range(self.steps - 1, -1, -1), desc="reverse", unit="step", disable=None):
            if (step + 1) % states.every == 0 or step == self.steps - 1:
                segment = self._segment(model, states, corpus, step)
            put(model, segment.pop())
            yield step, co_state
            if step == 0:
                return
            _, slope = mean_loss_gradient(model, samples, self.batch_tokens)
            accumulate(slope, co_state)
            if self.hessian != "none":
                product = exact_product if self.hessian == "exact" else finite_difference_product
                curvature = product(model, self.batch(corpus, step), co_state, self.batch_tokens)
                accumulate(slope, curvature, -self.learning_rate)
            co_state = slope

    def _segment(self, model: torch.nn.Module, states: "StoredStates", corpus: TokenStore, last: int) -> list[Tensors]:
        """theta from the stored state at or before step `last` up to step `last`, trained again."""
        first = last - last % states.every
        put(model, states.load(first))
        segment = [copy(model)]
        for step in range(first, last):
            self.train_step(model, corpus, step)
            segment.append(copy(model))
        return segment

    def train_step(self, model: torch.nn.Module, corpus: TokenStore, step: int) -> None:
        """theta_t to theta_{t+1}. Raises: UserError where the loss is not finite."""
        loss, gradient = mean_loss_gradient(model, self.batch(corpus, step), self.batch_tokens)
        if not np.isfinite(loss):
            raise UserError(f"the loss is {loss} at step {step}: lower learning_rate ({self.learning_rate:g})")
        shift(model, gradient, -self.learning_rate)

    def batch(self, corpus: TokenStore, step: int) -> list[np.ndarray]:
        """The samples of step t: rows t b .. t b + b - 1 of the file, starting over at its end."""
        rows = np.arange(step * self.batch_size, (step + 1) * self.batch_size) % len(corpus)
        return [corpus[row] for row in rows]


@dataclass(frozen=True)
class StoredStates:
    """States on disk, one file every `every` steps."""

    folder: Path
    every: int

    def save(self, step: int, model: torch.nn.Module) -> None:
        """Raises: UserError where the disk is full."""
        tensors = {str(number): tensor for number, tensor in enumerate(copy(model))}
        try:
            save_file(tensors, self.folder / f"{step}.safetensors")
        except Exception as error:  # safetensors has an exception of its own for a full disk
            raise UserError(f"cannot store the state of step {step} in {self.folder}: {error}") from error

    def load(self, step: int) -> Tensors:
        """theta_step, in the order of `model.parameters()`."""
        tensors = load_file(self.folder / f"{step}.safetensors")
        return [tensors[str(number)] for number in range(len(tensors))]


def annotate(
    reader: PerSampleGradients, corpus: TokenStore, direction: Tensors | None, batch_tokens: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Dot product with `direction` and norm of the gradient of every sample, with the model as it is. -> (n,) x 2."""
    dots, norms = np.empty(len(corpus)), np.empty(len(corpus))
    with reader, tqdm(total=len(corpus), desc=name, unit="sample", disable=None) as bar:
        for batch in token_budget_batches(corpus.lengths, batch_tokens):
            dots[batch], norms[batch] = reader.dots_and_norms([corpus[row] for row in batch], direction)
            bar.update(len(batch))
    return dots, norms


def mean_loss_gradient(
    model: torch.nn.Module, samples: Sequence[np.ndarray], batch_tokens: int
) -> tuple[float, Tensors]:
    """Mean over `samples` of their mean token loss, and its gradient, accumulated over batches of `batch_tokens`."""
    parameters = list(model.parameters())
    loss, total = 0.0, [torch.zeros_like(p) for p in parameters]
    for batch in _batches(samples, batch_tokens):
        part = sample_losses(model, batch).sum() / len(samples)
        loss += part.item()
        accumulate(total, torch.autograd.grad(part, parameters, materialize_grads=True))
    return loss, total


def exact_product(model: torch.nn.Module, samples: Sequence[np.ndarray], vector: Tensors, batch_tokens: int) -> Tensors:
    """H v for the Hessian H of the mean loss of `samples`, by differentiating grad L . v."""
    parameters = list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels cannot be differentiated twice
        for batch in _batches(samples, batch_tokens):
            part = sample_losses(model, batch).sum() / len(samples)
            slope = torch.autograd.grad(part, parameters, create_graph=True, materialize_grads=True)
            product = sum((g * v).sum() for g, v in zip(slope, vector, strict=True))
            accumulate(total, torch.autograd.grad(product, parameters, materialize_grads=True))
    return total


def finite_difference_product(
    model: torch.nn.Module, samples: Sequence[np.ndarray], vector: Tensors, batch_tokens: int
) -> Tensors:
    """H v by the central difference (grad L(theta + e v) - grad L(theta - e v)) / 2 e with e = 1e-4 |theta| / |v|."""
    state, size = copy(model), norm(vector)
    if size == 0:
        return [torch.zeros_like(v) for v in vector]
    step = DIFFERENCE * norm(list(model.parameters())) / size
    shift(model, vector, step)
    _, ahead = mean_loss_gradient(model, samples, batch_tokens)
    put(model, state)
    shift(model, vector, -step)
    _, behind = mean_loss_gradient(model, samples, batch_tokens)
    put(model, state)
    return [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]


def accumulate(total: Tensors, parts: Sequence[torch.Tensor], factor: float = 1.0) -> None:
    """total += factor * parts, tensor by tensor."""
    for sum_, part in zip(total, parts, strict=True):
        sum_.add_(part, alpha=factor)


@torch.no_grad()
def norm(tensors: Sequence[torch.Tensor]) -> float:
    """Euclidean norm of all numbers together, added up in float64."""
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in tensors))


@torch.no_grad()
def shift(model: torch.nn.Module, direction: Tensors, amount: float) -> None:
    """theta += amount * direction."""
    accumulate(list(model.parameters()), direction, amount)


@torch.no_grad()
def copy(model: torch.nn.Module) -> Tensors:
    """The parameters on the CPU."""
    return [parameter.detach().to("cpu", copy=True) for parameter in model.parameters()]


@torch.no_grad()
def put(model: torch.nn.Module, state: Tensors) -> None:
    """Set the parameters to `state`."""
    for parameter, value in zip(model.parameters(), state, strict=True):
        parameter.copy_(value)


def _batches(samples: Sequence[np.ndarray], batch_tokens: int) -> Iterator[list[np.ndarray]]:
    lengths = np.array([len(sample) for sample in samples])
    for batch in token_budget_batches(lengths, batch_tokens):
        yield [samples[number] for number in batch]
