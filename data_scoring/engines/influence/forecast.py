"""How many passes an annotation makes and about how long they take, told before it begins."""

import time
from collections.abc import Callable
from typing import Any

import torch

from data_common.calls.progress import Progress
from data_common.models.tokens import TokenStore, token_budget_batches
from data_common.models.traits import traits
from data_common.parallel import distributed
from data_scoring.engines.influence.per_sample_gradients import PerSampleGradients
from data_scoring.engines.influence.trajectory import CO_STATE, STATE, StoredStates, Trajectory, mean_loss_gradient


def tell(
    plan: Trajectory,
    model: torch.nn.Module,
    reader: PerSampleGradients,
    states: StoredStates,
    corpus: TokenStore,
    samples: TokenStore,
    target: TokenStore,
    visits: int,
) -> None:
    """Print what is left to do, and the time for it by a measured batch of each kind.

    states: what an interrupted run has stored. visits: steps at which all `samples` are still to be read.
    """
    forward = 0 if states.steps(CO_STATE) else plan.steps - states.last(STATE, default=0)
    back = states.first(CO_STATE, default=plan.steps)
    print(
        f"annotate: {forward:,} steps of {plan.batch_size:,} samples forward and {back:,} back, each of these with "
        f"{len(target):,} target samples; the gradients of {len(samples):,} samples at {visits:,} visited steps"
    )
    rows = plan.batch(corpus, 0)
    _, slope = mean_loss_gradient(model, rows, plan.batch_tokens)
    gradient = _seconds(lambda: mean_loss_gradient(model, rows, plan.batch_tokens))
    product = _seconds(lambda: plan.product(model, rows, slope))
    of_target = gradient * int(target.lengths.sum()) / sum(map(len, rows))
    batches = token_budget_batches(samples.lengths, plan.batch_tokens, traits(model).mixed_lengths)
    batch = batches[len(batches) // 2]
    with reader:
        read = _seconds(lambda: reader.dots_and_norms([samples[number] for number in batch], slope))
    visit = read * int(samples.lengths.sum()) / int(samples.lengths[batch].sum()) / distributed.size()
    left = forward * gradient + back * (gradient + product + of_target) + visits * visit
    print(f"annotate: about {Progress.format_interval(left)} to go, by one measured batch of each kind")


def _seconds(work: Callable[[], Any]) -> float:
    """Of the second time: the first one pays for what is set up once."""
    work()
    started = _now()
    work()
    return _now() - started


def _now() -> float:
    """Seconds, when all that a device was given to do is done."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
