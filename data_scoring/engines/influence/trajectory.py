"""The simulated training of the annotator, forward, and its co-states, backward (PDS, arXiv 2410.07064, section 2).

    forward   theta_{t+1} = theta_t - eta grad L_t(theta_t)                               t = 0 .. T-1
    reverse   lambda_T = grad J(theta_T)
              lambda_t = lambda_{t+1} + grad J(theta_t) - eta H_t(theta_t) lambda_{t+1}

L_t is the mean loss of the t-th mini-batch of the corpus (rows in file order, starting over at the end), H_t its
Hessian, J the mean loss of the target set; the loss of a sample is its mean token loss.

The forward pass stores a state on disk every sqrt(T) steps; the reverse pass trains again from one stored state to
the next, so that it holds about sqrt(T) states in memory instead of T, and stores a co-state at each of them. A run
that was killed continues with the last stored state or co-state, to the same numbers. Several processes share every
batch and add up their gradients.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from data_common.calls.progress import Progress
from data_common.files.atomic import atomic_file
from data_common.messages.errors import UserError
from data_common.models.tokens import TokenStore, token_budget_batches
from data_common.models.traits import trained, traits
from data_common.parallel import distributed
from data_scoring.engines.influence.per_sample_gradients import PerSampleGradients, sample_losses

Tensors = list[torch.Tensor]
Log = Callable[[Mapping[str, float], int], None]
DIFFERENCE = 1e-4  # step of a finite difference as a share of |theta|
STATE, CO_STATE = "theta", "lambda"


def ignore(values: Mapping[str, float], step: int) -> None:
    """Where nothing is tracked."""


@dataclass(frozen=True)
class Trajectory:
    """`steps` T of plain SGD with learning rate eta on batches of `batch_size` samples."""

    steps: int
    learning_rate: float
    batch_size: int
    batch_tokens: int  # padded tokens of one forward and backward pass
    hessian: Literal["exact", "finite-difference", "none"] = "exact"
    log: Log = ignore  # told the loss of every step, and the target loss and norm of lambda on the way back

    def states(self, folder: Path) -> "StoredStates":
        """The folder of the states of this trajectory, one every ceil(sqrt(T)) steps."""
        return StoredStates(folder, math.isqrt(self.steps - 1) + 1)

    def forward(self, model: torch.nn.Module, corpus: TokenStore, states: "StoredStates") -> None:
        """theta_0 to theta_T, or on from the last state that is stored.

        Raises: UserError at the step where the loss is no longer finite, or where the disk is full.
        """
        if states.steps(CO_STATE):
            return  # the way back has begun
        first = states.last(STATE, default=0)
        if first:
            states.put(first, model)
        for step in Progress(range(first, self.steps), "forward", self.steps, initial=first, unit="step"):
            if step % states.every == 0:
                states.save(STATE, step, copy(model))
            self.log({"loss": self.train_step(model, corpus, step)}, step)
        states.save(STATE, self.steps, copy(model))

    def co_states(
        self, model: torch.nn.Module, states: "StoredStates", corpus: TokenStore, target: TokenStore
    ) -> Iterator[tuple[int, Tensors | None]]:
        """Yield (t, lambda_{t+1}) for t = T .. 0, with the model at theta_t; at t = T it has no co-state.

        Where a co-state lambda_s is stored, only for t = s - 1 .. 0.
        """
        samples, last = list(target), states.first(CO_STATE, default=self.steps + 1)
        if last <= self.steps:
            co_state = states.load(CO_STATE, last, model)
        else:
            states.put(self.steps, model)
            yield self.steps, None
            last = self.steps
            loss, co_state = mean_loss_gradient(model, samples, self.batch_tokens)
            self.log({"target_loss": loss, "co_state_norm": norm(co_state)}, 2 * self.steps - last)
        bar = Progress(range(last - 1, -1, -1), "reverse", self.steps, initial=self.steps - last, unit="step")
        for step in bar:
            if (step + 1) % states.every == 0 or step == self.steps - 1:
                states.save(CO_STATE, step + 1, co_state)
                states.remove_above(step + 1)
                segment = self._segment(model, states, corpus, step)
            put(model, segment.pop())
            yield step, co_state
            if step == 0:
                return
            curvature = self.product(model, self.batch(corpus, step), co_state)
            if curvature is not None:
                accumulate(co_state, curvature, -self.learning_rate)
            del curvature  # before the next gradient: each of them is as large as the model
            loss, slope = mean_loss_gradient(model, samples, self.batch_tokens)
            accumulate(slope, co_state)
            co_state = slope
            self.log({"target_loss": loss, "co_state_norm": norm(co_state)}, 2 * self.steps - step)

    def _segment(self, model: torch.nn.Module, states: "StoredStates", corpus: TokenStore, last: int) -> list[Tensors]:
        """theta from the stored state at or before step `last` up to step `last`, trained again."""
        first = last - last % states.every
        states.put(first, model)
        segment = [copy(model)]
        for step in range(first, last):
            self.train_step(model, corpus, step)
            segment.append(copy(model))
        return segment

    def train_step(self, model: torch.nn.Module, corpus: TokenStore, step: int) -> float:
        """theta_t to theta_{t+1}; -> the loss L_t. Raises: UserError where it is not finite."""
        loss, gradient = mean_loss_gradient(model, self.batch(corpus, step), self.batch_tokens)
        if not np.isfinite(loss):
            raise UserError(f"the loss is {loss} at step {step}: lower learning_rate ({self.learning_rate:g})")
        shift(model, gradient, -self.learning_rate)
        return loss

    def product(self, model: torch.nn.Module, samples: Sequence[np.ndarray], vector: Tensors) -> Tensors | None:
        """H v for the Hessian H of the mean loss of `samples`; None where it is left out."""
        if self.hessian == "none":
            return None
        by = exact_product if self.hessian == "exact" else finite_difference_product
        return by(model, samples, vector, self.batch_tokens)

    def batch(self, corpus: TokenStore, step: int) -> list[np.ndarray]:
        """The samples of step t: rows t b .. t b + b - 1 of the file, starting over at its end."""
        rows = np.arange(step * self.batch_size, (step + 1) * self.batch_size) % len(corpus)
        return [corpus[row] for row in rows]


@dataclass(frozen=True)
class StoredStates:
    """States theta_t and co-states lambda_t on disk, written whole or not at all, by the first process."""

    folder: Path
    every: int

    def steps(self, kind: str) -> list[int]:
        """The steps of the stored states, or co-states, ascending."""
        return sorted(int(path.stem.split("-")[1]) for path in self.folder.glob(f"{kind}-*.safetensors"))

    def first(self, kind: str, default: int) -> int:
        """The earliest stored step."""
        return min(self.steps(kind), default=default)

    def last(self, kind: str, default: int) -> int:
        """The latest stored step."""
        return max(self.steps(kind), default=default)

    def save(self, kind: str, step: int, tensors: Tensors) -> None:
        """Raises: UserError where the disk is full."""
        if distributed.is_main():
            path = self._path(kind, step)
            named = {str(number): tensor.cpu() for number, tensor in enumerate(tensors)}
            try:
                self.folder.mkdir(exist_ok=True)
                with atomic_file(path) as draft:
                    save_file(named, draft)
            except Exception as error:  # safetensors has an exception of its own for a full disk
                raise UserError(f"cannot store step {step} in {self.folder}: {error}") from error
        distributed.wait()

    def load(self, kind: str, step: int, model: torch.nn.Module) -> Tensors:
        """The tensors of a step, in the order of `trained(model)` and beside them."""
        tensors = load_file(self._path(kind, step))
        return [tensors[str(number)].to(p.device) for number, p in enumerate(trained(model))]

    def put(self, step: int, model: torch.nn.Module) -> None:
        """Set the model to theta_step."""
        put(model, self.load(STATE, step, model))

    def remove_above(self, step: int) -> None:
        """Remove what a reverse pass that has come down to lambda_step no longer needs."""
        for kind in (STATE, CO_STATE):
            for later in self.steps(kind) if distributed.is_main() else ():
                if later > step:
                    self._path(kind, later).unlink()
        distributed.wait()

    def _path(self, kind: str, step: int) -> Path:
        return self.folder / f"{kind}-{step:06}.safetensors"


def annotate(
    reader: PerSampleGradients, samples: TokenStore, direction: Tensors | None, batch_tokens: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Dot product with `direction` and norm of the gradient of every sample, with the model as it is. -> (n,) x 2."""
    dots, norms = np.zeros(len(samples)), np.zeros(len(samples))
    mine = token_budget_batches(samples.lengths, batch_tokens, traits(reader.model).mixed_lengths)[
        distributed.rank() :: distributed.size()
    ]
    with reader, Progress(desc=name, total=sum(map(len, mine)), unit="sample") as bar:
        for batch in mine:
            dots[batch], norms[batch] = reader.dots_and_norms([samples[number] for number in batch], direction)
            bar.update(len(batch))
    distributed.add_up([dots, norms])  # each of them was read by one process and is 0 elsewhere
    return dots, norms


def mean_loss_gradient(
    model: torch.nn.Module, samples: Sequence[np.ndarray], batch_tokens: int
) -> tuple[float, Tensors]:
    """Mean over `samples` of their mean token loss, and its gradient, accumulated over batches of `batch_tokens`."""
    parameters = trained(model)
    loss, total = np.zeros(1), [torch.zeros_like(p) for p in parameters]
    for batch in _my_batches(model, samples, batch_tokens):
        part = sample_losses(model, batch).sum() / len(samples)
        loss += part.item()
        accumulate(total, torch.autograd.grad(part, parameters, materialize_grads=True))
    distributed.add_up([loss, *total])
    return loss.item(), total


def exact_product(model: torch.nn.Module, samples: Sequence[np.ndarray], vector: Tensors, batch_tokens: int) -> Tensors:
    """H v for the Hessian H of the mean loss of `samples`, by differentiating grad L . v."""
    parameters = trained(model)
    total = [torch.zeros_like(p) for p in parameters]
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels cannot be differentiated twice
        for batch in _my_batches(model, samples, batch_tokens):
            part = sample_losses(model, batch).sum() / len(samples)
            slope = torch.autograd.grad(part, parameters, create_graph=True, materialize_grads=True)
            product = sum((g * v).sum() for g, v in zip(slope, vector, strict=True))
            accumulate(total, torch.autograd.grad(product, parameters, materialize_grads=True))
    distributed.add_up(total)
    return total


def finite_difference_product(
    model: torch.nn.Module, samples: Sequence[np.ndarray], vector: Tensors, batch_tokens: int
) -> Tensors:
    """H v by the central difference (grad L(theta + e v) - grad L(theta - e v)) / 2 e with e = 1e-4 |theta| / |v|."""
    state, size = copy(model), norm(vector)
    if size == 0:
        return [torch.zeros_like(v) for v in vector]
    step = DIFFERENCE * norm(trained(model)) / size
    shift(model, vector, step)
    _, ahead = mean_loss_gradient(model, samples, batch_tokens)
    put(model, state)
    shift(model, vector, -step)
    _, behind = mean_loss_gradient(model, samples, batch_tokens)
    put(model, state)
    accumulate(ahead, behind, -1.0)  # in place: each list is as large as the model
    for difference in ahead:
        difference.div_(2 * step)
    return ahead


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
    accumulate(trained(model), direction, amount)


@torch.no_grad()
def copy(model: torch.nn.Module) -> Tensors:
    """The parameters on the CPU."""
    return [parameter.detach().to("cpu", copy=True) for parameter in trained(model)]


@torch.no_grad()
def put(model: torch.nn.Module, state: Tensors) -> None:
    """Set the parameters to `state`."""
    for parameter, value in zip(trained(model), state, strict=True):
        parameter.copy_(value)


def _my_batches(model: torch.nn.Module, samples: Sequence[np.ndarray], batch_tokens: int) -> Iterator[list[np.ndarray]]:
    """This process's share of the samples, in batches."""
    mine = samples[distributed.rank() :: distributed.size()]
    lengths = np.array([len(sample) for sample in mine])
    for batch in token_budget_batches(lengths, batch_tokens, traits(model).mixed_lengths):
        yield [mine[number] for number in batch]
