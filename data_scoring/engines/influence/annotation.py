"""Annotate: walk the simulated training back and read every sample's gradient at the visited steps.

What a visited step gave is kept in `sweep/`, so that a run that was killed continues with the last stored co-state and
reads nothing twice.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from data_common.files.atomic import atomic_file
from data_common.messages.errors import UserError
from data_common.models.tokens import TokenStore
from data_common.parallel import distributed
from data_scoring.engines.influence import forecast, trajectory
from data_scoring.engines.influence.per_sample_gradients import PerSampleGradients
from data_scoring.engines.influence.settings import Annotate, Formula, Simulation, Tracking
from data_scoring.engines.influence.tracking import tracked


def annotate(
    model: torch.nn.Module,
    corpus: TokenStore,
    samples: TokenStore,
    target: TokenStore,
    simulation: Simulation,
    formula: Formula,
    folder: Path,
    *,
    tracking: Tracking,
    autocast: torch.dtype | None = None,
) -> np.ndarray:
    """The score of every sample, (samples,), by the formula.

    model: the annotator; its parameters are changed. corpus: the training stream. target: the samples of J.
    folder: for `states`, which the caller removes when the scores are stored, and sweep. autocast: bfloat16 when the
    gradients of the samples are read.
    Raises: UserError where the training diverges.
    """
    name = f"annotate {folder.parent.name}"
    with tracked(tracking.report_to, tracking.project, name, folder) as log:
        plan = trajectory.Trajectory(
            simulation.steps,
            simulation.learning_rate,
            simulation.batch_size,
            simulation.batch_tokens,
            simulation.hessian,
            log,
        )
        states = plan.states(folder / "states")
        reader = PerSampleGradients(model, [samples[0], samples[len(samples) - 1]], autocast)
        visits = sum(not _of_step(folder / "sweep", step).exists() for step in formula.steps_read())
        forecast.tell(plan, model, reader, states, corpus, samples, target, visits)
        plan.forward(model, corpus, states)
        sweep = _sweep(plan, model, reader, states, corpus, samples, target, folder / "sweep")
        gamma = formula.gamma(sweep, len(samples))
    if not np.isfinite(gamma).all():
        raise UserError(f"{(~np.isfinite(gamma)).sum():,} scores are no finite numbers: lower learning_rate")
    return gamma


def _sweep(
    plan: trajectory.Trajectory,
    model: torch.nn.Module,
    reader: PerSampleGradients,
    states: trajectory.StoredStates,
    corpus: TokenStore,
    samples: TokenStore,
    target: TokenStore,
    folder: Path,
) -> Iterator[tuple[int, Annotate]]:
    """(t, annotate) for t = T .. 0, with the model at theta_t wherever a step was not read before."""
    folder.mkdir(exist_ok=True)

    def reading(step: int, co_state: trajectory.Tensors | None) -> Annotate:
        path = _of_step(folder, step)

        def read() -> tuple[np.ndarray, np.ndarray]:
            if not path.exists():
                if co_state is None and step < plan.steps:
                    raise UserError(f"{path} is missing: remove {folder.parent} to annotate again")
                name = f"annotating at step {step}"
                dots, norms = trajectory.annotate(reader, samples, co_state, plan.batch_tokens, name)
                if distributed.is_main():
                    reliability = 0.0 if co_state is None else trajectory.norm(co_state)
                    with atomic_file(path) as partial, open(partial, "wb") as file:
                        np.savez(file, dots=dots, norms=norms, co_state_norm=reliability)
                distributed.wait()
            with np.load(path) as stored:
                return stored["dots"], stored["norms"]

        return read

    done = states.first(trajectory.CO_STATE, default=plan.steps + 1)  # these and all above were read before
    for step in range(plan.steps, done - 1, -1):
        yield step, reading(step, None)
    for step, co_state in plan.co_states(model, states, corpus, target):
        yield step, reading(step, co_state)


def _of_step(folder: Path, step: int) -> Path:
    return folder / f"step-{step:06}.npz"
