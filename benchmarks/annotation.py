"""Annotation pass against vmap(grad) over the whole model and against a plain forward and backward.

    python -m benchmarks.annotation                     160M Mistral, 256 tokens, CPU or GPU: minutes
    python -m benchmarks.annotation --tokens 1024 --batch 1
    python -m benchmarks.annotation --size tiny         seconds, to try the script

Prints a Markdown table: medians of alternating runs in one process for time, one fresh process each for memory.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.func import functional_call, grad, vmap
from transformers import AutoModelForCausalLM, MistralConfig

from data_scoring.influence.per_sample_gradients import PerSampleGradients, sample_losses

SIZES = {  # hidden, feed-forward, layers, heads, vocabulary
    "160m": (768, 3072, 12, 12, 32000),
    "tiny": (96, 192, 3, 6, 2048),
}


def build(size: str, attention: str = "sdpa") -> torch.nn.Module:
    """A Mistral of this size with random weights and untied embeddings, on the GPU if there is one."""
    hidden, feed_forward, layers, heads, vocabulary = SIZES[size]
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        sliding_window=None,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).to(device).eval()


def annotation(reader: PerSampleGradients, documents: list[np.ndarray], direction: list[torch.Tensor]) -> np.ndarray:
    """The project's pass: dot products and norms by hooks."""
    with reader:
        return np.stack(reader.dots_and_norms(documents, direction))


def plain(model: torch.nn.Module, documents: list[np.ndarray], direction: list[torch.Tensor]) -> None:
    """One forward and backward of the same batch, as in training."""
    torch.autograd.grad(sample_losses(model, documents).sum(), list(model.parameters()))


def vmap_grad(model: torch.nn.Module, documents: list[np.ndarray], direction: list[torch.Tensor]) -> np.ndarray:
    """Every per-sample gradient of the whole model, then its dot product and norm."""
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


def prepare(way: str, arguments: argparse.Namespace) -> tuple:
    """Model (or its reader), documents and direction for one way. vmap needs the eager attention."""
    model = build(arguments.size, "eager" if way == "vmap(grad)" else "sdpa")
    generator = np.random.default_rng(0)
    documents = list(generator.integers(0, model.config.vocab_size, (arguments.batch, arguments.tokens)))
    torch.manual_seed(1)
    direction = [torch.randn_like(parameter) for parameter in model.parameters()]
    first = PerSampleGradients(model, [documents[0][:2]]) if way == "annotation" else model
    return first, documents, direction


def measure_memory(way: str, arguments: argparse.Namespace, answer) -> None:
    """In a fresh process: bytes at the peak beyond model, direction and a warmed-up runtime."""
    inputs = prepare(way, arguments)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        WAYS[way](*inputs)
        answer.put(torch.cuda.max_memory_allocated() - before)
        return
    small = argparse.Namespace(size="tiny", batch=2, tokens=8)
    WAYS[way](*prepare(way, small))
    with open("/proc/self/clear_refs", "w", encoding="ascii") as reset:
        reset.write("5")  # the peak is counted from here
    before = resident("VmRSS")
    WAYS[way](*inputs)
    answer.put(resident("VmHWM") - before)


def resident(name: str) -> int:
    """Bytes of resident memory: VmRSS now, VmHWM at the peak."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


def run_once(way: str, inputs: tuple) -> tuple[float, float, np.ndarray | None]:
    """Wall seconds, CPU seconds, result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = WAYS[way](*inputs)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="160m")
    parser.add_argument("--tokens", type=int, default=256, help="tokens of a sample")
    parser.add_argument("--batch", type=int, default=4, help="samples of a batch")
    parser.add_argument("--repeats", type=int, default=3, help="alternating runs, of which the median counts")
    arguments = parser.parse_args()
    memory = {}
    spawn = multiprocessing.get_context("spawn")
    for way in WAYS:
        answer = spawn.Queue()
        process = spawn.Process(target=measure_memory, args=(way, arguments, answer))
        process.start()
        memory[way] = answer.get()
        process.join()
    inputs = {way: prepare(way, arguments) for way in WAYS}
    runs = [{way: run_once(way, inputs[way]) for way in WAYS} for _ in range(arguments.repeats + 1)][1:]
    error = np.abs(runs[0]["annotation"][2] / runs[0]["vmap(grad)"][2] - 1).max(axis=1)
    median = {way: [statistics.median(run[way][i] for run in runs) for i in (0, 1)] for way in WAYS}
    millions = sum(part.numel() for part in inputs["plain"][2]) / 1e6
    shape = f"{arguments.batch} x {arguments.tokens} tokens"
    print(f"{millions:.1f}M parameters, {shape}, {torch.get_num_threads()} threads\n")
    print("| way | wall s | CPU s | wall / annotation | extra memory MB | memory / annotation |")
    print("|---|---:|---:|---:|---:|---:|")
    for way in WAYS:
        wall, cpu = median[way]
        slower, larger = wall / median["annotation"][0], memory[way] / memory["annotation"]
        print(f"| {way} | {wall:.3f} | {cpu:.3f} | {slower:.2f} | {memory[way] / 1e6:.0f} | {larger:.2f} |")
    print(f"\nlargest relative difference from vmap(grad): dot product {error[0]:.1e}, norm {error[1]:.1e}")


if __name__ == "__main__":
    main()
