"""Memory of the reverse pass in model sizes: bytes over the bytes of the float32 parameters.

Parameters dominate: two samples of eight tokens a batch. Two measures at the peak of `Trajectory.co_states`, both
of all that is held, the model included; states on disk are not counted. Each is taken in a process of its own, over
one segment between stored states and the beginning of the next: all others are alike.

resident   memory of the process, less that before the model was made and after a run with a tiny one
tensors    bytes of living tensors by the profiler's record of every allocation
"""

import math
import os
import shutil
import tempfile
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import forget_peak, in_fresh_process, print_table, resident
from benchmarks.models import annotator, parameter_count
from data_common.models.tokens import TokenStore
from data_scoring.engines.influence.trajectory import Trajectory

CPU = torch.device("cpu")
SAMPLES, TOKENS = 16, 8


def samples(vocabulary: int) -> TokenStore:
    """Short samples of random tokens."""
    tokens = np.random.default_rng(0).integers(0, vocabulary, SAMPLES * TOKENS)
    return TokenStore(tokens, np.arange(SAMPLES) * TOKENS, np.full(SAMPLES, TOKENS))


def plan(steps: int, hessian: str = "exact") -> Trajectory:
    """Two samples a step."""
    return Trajectory(steps, learning_rate=1e-3, batch_size=2, batch_tokens=2 * TOKENS, hessian=hessian)


def forward(size: str, steps: int, folder: Path) -> None:
    """Leave the states of a forward pass in `folder`."""
    model = annotator(size, device=CPU)
    plan(steps).forward(model, samples(model.config.vocab_size), plan(steps).states(folder))


def reverse(model: torch.nn.Module, steps: int, hessian: str, folder: Path) -> None:
    """The first segment of a reverse pass and two steps of the next. folder: its states, which stay as they are."""
    corpus = samples(model.config.vocab_size)
    with tempfile.TemporaryDirectory(dir=folder.parent) as copied:
        shutil.copytree(folder, copied, copy_function=os.link, dirs_exist_ok=True)
        states = plan(steps).states(Path(copied))
        for step, _ in plan(steps, hessian).co_states(model, states, corpus, corpus.take(np.arange(2))):
            if step == steps - states.every - 2:
                return


def resident_sizes(size: str, steps: int, hessian: str, folder: Path) -> float:
    """Peak of resident memory in model sizes."""
    with tempfile.TemporaryDirectory() as tiny:
        forward("tiny", 2, Path(tiny, "states"))
        reverse(annotator("tiny", device=CPU), 2, hessian, Path(tiny, "states"))
    before = resident()
    model = annotator(size, device=CPU)
    forget_peak()
    reverse(model, steps, hessian, folder)
    return (resident("VmHWM") - before) / (4 * parameter_count(model))


def tensor_sizes(size: str, steps: int, hessian: str, folder: Path) -> float:
    """Peak of living tensors in model sizes."""
    model = annotator(size, device=CPU)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        reverse(model, steps, hessian, folder)
    events = record.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return 1 + max(accumulate(change for _, change in changes)) / (4 * parameter_count(model))


def report(size: str) -> None:
    """Measure and print the table."""
    os.environ["KINETO_LOG_LEVEL"] = "99"  # the profiler would report its start and stop
    ways: tuple[Callable, ...] = (resident_sizes, tensor_sizes)
    rows = []
    for steps in (25, 100):
        with tempfile.TemporaryDirectory() as folder:
            states = Path(folder, "states")
            in_fresh_process(forward, size, steps, states)
            for hessian in ("exact", "finite-difference"):
                sizes = [f"{in_fresh_process(way, size, steps, hessian, states):.2f}" for way in ways]
                rows.append([f"T = {steps}, {hessian}", *sizes, f"{math.sqrt(steps) + 6:.0f}"])
    title = f"Reverse pass, {size}, float32 on the CPU: memory in model sizes, the model included"
    print_table(title, ["run", "resident", "tensors", "aim: at most sqrt(T) + 6"], rows)
