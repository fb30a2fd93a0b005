"""The annotation pass against a plain forward and backward and against vmap(grad) over the whole model."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch.func import functional_call, grad, vmap

from benchmarks.measure import alternate, forget_peak, in_fresh_process, print_table, resident
from benchmarks.models import annotator, parameter_count
from benchmarks.peak import matmul_peak, operations
from data_scoring.engines.influence.per_sample_gradients import PerSampleGradients, sample_losses

Inputs = tuple[torch.nn.Module | PerSampleGradients, list[np.ndarray], list[torch.Tensor]]


def annotation(reader: PerSampleGradients, documents: list[np.ndarray], direction: list[torch.Tensor]) -> np.ndarray:
    """The project's pass: dot products and norms by hooks. -> (2, documents)."""
    with reader:
        return np.stack(reader.dots_and_norms(documents, direction))


def plain(model: torch.nn.Module, documents: list[np.ndarray], direction: list[torch.Tensor]) -> None:
    """One forward and backward of the same batch, as in training."""
    torch.autograd.grad(sample_losses(model, documents).sum(), list(model.parameters()))


def vmap_grad(model: torch.nn.Module, documents: list[np.ndarray], direction: list[torch.Tensor]) -> np.ndarray:
    """Every per-sample gradient of the whole model, then its dot product and norm. -> (2, documents)."""
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    ids = torch.from_numpy(np.stack(documents)).to(model.device)

    def loss(values: dict[str, torch.Tensor], sample: torch.Tensor) -> torch.Tensor:
        logits = functional_call(model, values, kwargs={"input_ids": sample[None], "use_cache": False}).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits, sample[1:])

    gradients = vmap(grad(loss), in_dims=(None, 0))(parameters, ids)
    dots = sum((g.flatten(1) @ d.flatten()).double() for g, d in zip(gradients.values(), direction, strict=True))
    squares = sum(g.flatten(1).square().sum(1).double() for g in gradients.values())
    return np.stack([dots.cpu().numpy(), squares.sqrt().cpu().numpy()])


WAYS: dict[str, Callable] = {"annotation": annotation, "plain": plain, "vmap(grad)": vmap_grad}


def random_inputs(model: torch.nn.Module, batch: int, tokens: int) -> tuple[list[np.ndarray], list[torch.Tensor]]:
    """Documents of random tokens and a random direction."""
    generator = np.random.default_rng(0)
    documents = list(generator.integers(0, model.config.vocab_size, (batch, tokens)))
    torch.manual_seed(1)
    return documents, [torch.randn_like(parameter) for parameter in model.parameters()]


def prepare(way: str, size: str, batch: int, tokens: int) -> Inputs:
    """Model (or its reader), documents and direction for one way. vmap needs the eager attention."""
    model = annotator(size, "eager" if way == "vmap(grad)" else "sdpa")
    documents, direction = random_inputs(model, batch, tokens)
    first = PerSampleGradients(model, [documents[0][:2]]) if way == "annotation" else model
    return first, documents, direction


def extra_memory(way: str, size: str, batch: int, tokens: int) -> int:
    """Bytes at the peak beyond model, direction and a runtime warmed up with a tiny model; for a fresh process."""
    WAYS[way](*prepare(way, "tiny", 2, 8))
    inputs = prepare(way, size, batch, tokens)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        WAYS[way](*inputs)
        return torch.cuda.max_memory_allocated() - before
    before = resident()
    forget_peak()
    WAYS[way](*inputs)
    return resident("VmHWM") - before


def report(size: str, batch: int, tokens: int, repeats: int, ways: Sequence[str], aim: str) -> None:
    """Measure these ways, annotation among them, and print the table."""
    memory = {way: in_fresh_process(extra_memory, way, size, batch, tokens) for way in ways}
    inputs = {way: prepare(way, size, batch, tokens) for way in ways}
    runs = alternate({way: partial(WAYS[way], *inputs[way]) for way in ways}, repeats)
    ours = runs["annotation"]
    needed, peak = operations(inputs["plain"][0], batch, tokens), matmul_peak(torch.float32, repeats)
    rows = []
    for way, run in runs.items():
        ratios = [run.wall / ours.wall, run.cpu / ours.cpu, memory[way] / memory["annotation"]]
        wall, cpu, larger = (f"{ratio:.2f}" for ratio in ratios)
        rows.append([way, f"{run.wall:.3f}", wall, f"{run.cpu:.3f}", cpu, f"{memory[way] / 1e6:.0f}", larger])
        rows[-1].append(f"{needed / run.wall / peak:.0%}")
    millions = parameter_count(inputs["plain"][0]) / 1e6
    ratio = "/ annotation"
    columns = ["way", "wall s", ratio, "CPU s", ratio, "extra memory MB", ratio, "share of peak"]
    title = f"Annotation pass, {millions:.0f}M, float32, {batch} x {tokens:,} tokens; "
    title += f"float32 matmul peak {peak / 1e9:,.0f} Gflop/s (aim: {aim})"
    print_table(title, columns, rows)
    if "vmap(grad)" in runs:
        error = np.abs(ours.result / runs["vmap(grad)"].result - 1).max(axis=1)
        print(f"\nlargest relative difference from vmap(grad): dot product {error[0]:.1e}, norm {error[1]:.1e}")
