"""Memory of the reverse pass in model sizes: bytes over the bytes of the float32 parameters.

Parameters dominate: two samples of eight tokens a batch. Two measures at the peak of `Trajectory.co_states`, both
of all that is held, the model included; states on disk are not counted.

resident   memory of a fresh process, less that before the model was made and after a run with a tiny one
tensors    bytes of living tensors by the profiler's record of every allocation
"""

import tempfile
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import forget_peak, in_fresh_process, print_table, resident
from benchmarks.models import annotator, parameter_count
from common.tokens import TokenStore
from data_scoring.influence.trajectory import StoredStates, Trajectory

CPU = torch.device("cpu")
SAMPLES, TOKENS = 16, 8
STEPS = (25, 100)
HESSIANS = ("exact", "finite-difference")


def samples(vocabulary: int) -> TokenStore:
    """Short samples of random tokens."""
    tokens = np.random.default_rng(0).integers(0, vocabulary, SAMPLES * TOKENS)
    return TokenStore(tokens, np.arange(SAMPLES) * TOKENS, np.full(SAMPLES, TOKENS))


def plan(steps: int, hessian: str) -> Trajectory:
    """Two samples a step."""
    return Trajectory(steps, learning_rate=1e-3, batch_size=2, batch_tokens=2 * TOKENS, hessian=hessian)


def reverse(steps: int, hessian: str, model: torch.nn.Module, states: StoredStates) -> None:
    """The whole reverse pass."""
    corpus = samples(model.config.vocab_size)
    for _ in plan(steps, hessian).co_states(model, states, corpus, corpus.take(np.arange(2))):
        pass


def prepared(size: str, steps: int, hessian: str, folder: str) -> tuple[torch.nn.Module, StoredStates]:
    """A model after the forward pass, and the states of that in `folder`."""
    model, trajectory = annotator(size, device=CPU), plan(steps, hessian)
    states = trajectory.states(Path(folder))
    trajectory.forward(model, samples(model.config.vocab_size), states)
    return model, states


def resident_sizes(size: str, steps: int, hessian: str) -> float:
    """Peak of resident memory in model sizes."""
    with tempfile.TemporaryDirectory() as folder:
        reverse(2, hessian, *prepared("tiny", 2, hessian, folder))
    before = resident()
    with tempfile.TemporaryDirectory() as folder:
        model, states = prepared(size, steps, hessian, folder)
        forget_peak()
        reverse(steps, hessian, model, states)
    return (resident("VmHWM") - before) / (4 * parameter_count(model))


def tensor_sizes(size: str, steps: int, hessian: str) -> float:
    """Peak of living tensors in model sizes."""
    with tempfile.TemporaryDirectory() as folder:
        model, states = prepared(size, steps, hessian, folder)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            reverse(steps, hessian, model, states)
    events = record.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return 1 + max(accumulate(change for _, change in changes)) / (4 * parameter_count(model))
