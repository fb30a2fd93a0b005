"""The simulated training of the annotator, forward, and its co-states, backward (PDS, arXiv 2410.07064, section 2).

    forward   theta_{t+1} = theta_t - eta grad L_t(theta_t)                               t = 0 .. T-1
    reverse   lambda_T = grad J(theta_T)
              lambda_t = lambda_{t+1} + grad J(theta_t) - eta H_t(theta_t) lambda_{t+1}

L_t is the mean loss of the t-th mini-batch of the corpus (rows in file order, starting over at the end), H_t its
Hessian, J the mean loss of the target set; the loss of a sample is its mean token loss.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from common.errors import UserError
from common.tokens import TokenStore, token_budget_batches
from data_scoring.per_sample_gradients import PerSampleGradients, sample_losses

Tensors = list[torch.Tensor]


@dataclass(frozen=True)
class Trajectory:
    """`steps` T of plain SGD with learning rate eta on batches of `batch_size` samples."""

    steps: int
    learning_rate: float
    batch_size: int
    batch_tokens: int  # padded tokens of one forward and backward pass

    def batch(self, corpus: TokenStore, step: int) -> list[np.ndarray]:
        """The samples of step t: rows t b .. t b + b - 1 of the file, starting over at its end."""
        rows = np.arange(step * self.batch_size, (step + 1) * self.batch_size) % len(corpus)
        return [corpus[row] for row in rows]


def forward_states(model: torch.nn.Module, corpus: TokenStore, plan: Trajectory) -> list[Tensors]:
    """theta_0 .. theta_T on the CPU; the model is left at theta_T.

    Raises: UserError at the step where the loss is no longer finite.
    """
    parameters = list(model.parameters())
    states = [_copy(parameters)]
    for step in tqdm(range(plan.steps), desc="forward", unit="step", disable=None):
        loss, gradient = mean_loss_gradient(model, plan.batch(corpus, step), plan.batch_tokens)
        if not np.isfinite(loss):
            raise UserError(f"the loss is {loss} at step {step}: lower learning_rate ({plan.learning_rate:g})")
        with torch.no_grad():
            for parameter, slope in zip(parameters, gradient, strict=True):
                parameter -= plan.learning_rate * slope
        states.append(_copy(parameters))
    return states


def co_states(
    model: torch.nn.Module, states: list[Tensors], corpus: TokenStore, target: TokenStore, plan: Trajectory
) -> Iterator[tuple[int, Tensors | None]]:
    """Yield (t, lambda_{t+1}) for t = T .. 0, with the model at theta_t; there is none for t = T."""
    co_state: Tensors | None = None
    samples = list(target)
    for step in tqdm(range(plan.steps, -1, -1), desc="reverse", unit="step", disable=None):
        _load(model, states[step])
        yield step, co_state
        if step == 0:
            return
        _, slope = mean_loss_gradient(model, samples, plan.batch_tokens)
        if co_state is None:
            co_state = slope
            continue
        curvature = hessian_vector_product(model, plan.batch(corpus, step), co_state, plan.batch_tokens)
        co_state = [c + s - plan.learning_rate * h for c, s, h in zip(co_state, slope, curvature, strict=True)]


def annotate(
    reader: PerSampleGradients, corpus: TokenStore, direction: Tensors | None, batch_tokens: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Dot product with `direction` and norm of the gradient of every sample, with the model as it is. -> (n,) x 2."""
    dots, norms = np.empty(len(corpus)), np.empty(len(corpus))
    with tqdm(total=len(corpus), desc=name, unit="sample", disable=None) as bar:
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
        for sum_, gradient in zip(total, torch.autograd.grad(part, parameters), strict=True):
            sum_ += gradient
    return loss, total


def hessian_vector_product(
    model: torch.nn.Module, samples: Sequence[np.ndarray], vector: Tensors, batch_tokens: int
) -> Tensors:
    """H v for the Hessian H of the mean loss of `samples`, exactly, by differentiating grad L . v."""
    parameters = list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels cannot be differentiated twice
        for batch in _batches(samples, batch_tokens):
            part = sample_losses(model, batch).sum() / len(samples)
            slope = torch.autograd.grad(part, parameters, create_graph=True)
            product = sum((g * v).sum() for g, v in zip(slope, vector, strict=True))
            for sum_, curvature in zip(total, torch.autograd.grad(product, parameters), strict=True):
                sum_ += curvature
    return total


def _batches(samples: Sequence[np.ndarray], batch_tokens: int) -> Iterator[list[np.ndarray]]:
    lengths = np.array([len(sample) for sample in samples])
    for batch in token_budget_batches(lengths, batch_tokens):
        yield [samples[number] for number in batch]


def _copy(parameters: Sequence[torch.Tensor]) -> Tensors:
    return [parameter.detach().to("cpu", copy=True) for parameter in parameters]


@torch.no_grad()
def _load(model: torch.nn.Module, state: Tensors) -> None:
    for parameter, value in zip(model.parameters(), state, strict=True):
        parameter.copy_(value)
