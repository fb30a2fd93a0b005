"""Speed and memory of model_train, beside a minimal loop of plain PyTorch on the same model and data.

    python -m benchmarks.training                       tiny and 16m on a CPU; 160m on a GPU
    python -m benchmarks.training --sizes tiny --repeats 1 --steps 10     to try the script

loop       tokens a second of the Trainer against the plain loop (aim: 0.95 of it), and memory at the peak
packing    real tokens a second of packed blocks against one row a sequence, on the embedded corpus
chunked    tokens a second and memory at the peak with chunked_loss and without
averaging  seconds of an optimizer step whose weights are averaged and of one without (aim: below 2 % more)
gpu        model FLOPs utilisation in bfloat16 with torch.compile; only on a GPU

Prints Markdown tables. A run's speed is that of the second half of its steps, without saving; medians of alternating
runs in one process. Memory is the peak of a fresh process.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.measure import in_fresh_process, print_table, resident, synchronise
from benchmarks.models import DEVICE, annotator, parameter_count
from benchmarks.peak import matmul_peak
from data_common.embedded import python_stdlib, tiny_model
from data_common.files.manifest import fingerprint
from data_common.rows.jsonl import open_source
from model_train.averaging import RunningAverage
from model_train.batches import Batches
from model_train.pretrain.method import Training
from model_train.sequences import collate
from model_train.settings import Averaging
from model_train.tokenized_corpus import corpus_of
from model_train.train_log import LOG, Watch
from model_train.trainer import RunFolder, fit
from model_train.training import TrainingRows

PARTS = ("loop", "packing", "chunked", "averaging", "gpu")
BATCH = 4


def data(folder: Path, max_length: int, packing: str, steps: int, batch: int = BATCH):
    """(keys, tokenizer, sequences) of so many steps on the embedded corpus."""
    source_path = folder / "stdlib" / "corpus.jsonl"
    if not source_path.exists():
        with contextlib.redirect_stdout(io.StringIO()):
            python_stdlib.build(folder / "stdlib")
    texts = [json.loads(line)["text"] for line in source_path.read_text(encoding="utf-8").split("\n")[:-1]]
    tokenizer = tiny_model.train_tokenizer(texts)
    common = {"batch_size": batch, "gradient_accumulation_steps": 1, "warmup_steps": 2, "logging_steps": steps // 2}
    training = Training(packing=packing, max_length=max_length, seed=0, save_steps=10**9, **common)
    with open_source(str(source_path)) as source:
        corpus = corpus_of(training, TrainingRows(source, [fingerprint(source_path)]), tokenizer)
    sequences = training.sequences(corpus, None, 100.0)
    tokens = sum(int(sequences.documents(number)[1].sum()) for number in range(steps * batch))
    return training, tokenizer, training.sequences(corpus, tokens, 1.0)


class Clock(Watch):
    """Notes wall and CPU seconds at the beginning of each optimizer step, and those that averaging takes."""

    def on_train_begin(self, *arguments, **rest) -> None:
        super().on_train_begin(*arguments, **rest)
        self.begins: list[np.ndarray] = []
        self.averaging: list[np.ndarray] = []

    def on_step_begin(self, *arguments, **rest) -> None:
        super().on_step_begin(*arguments, **rest)
        self.begins.append(seconds())

    def timed(self, add: Callable) -> Callable:
        """`RunningAverage.add`, whose seconds are noted."""

        def timed_add(*arguments) -> None:
            begin = seconds()
            add(*arguments)
            self.averaging.append(seconds() - begin)

        return timed_add


def seconds() -> np.ndarray:
    """Wall and CPU, (2,)."""
    synchronise()
    return np.array([time.perf_counter(), time.process_time()])


def trained(size: str, training: Training, tokenizer, sequences) -> tuple[Clock, list[dict]]:
    """One run of the trainer: its clock and the entries of its log."""
    precision = torch.bfloat16 if training.dtype == "bfloat16" else torch.float32
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(name)
        clock = Clock(Batches(sequences, training.batch_size), folder)
        place = RunFolder(folder, "benchmark", {}, None)
        with patch.object(RunningAverage, "add", clock.timed(RunningAverage.add)):
            fit(training, annotator(size), tokenizer, sequences, None, clock, place, DEVICE, precision, 1e-4)
        return clock, [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").split("\n")[:-1]]


def trainer_speed(*arguments) -> float:
    """Tokens a second."""
    return trained(*arguments)[1][1]["tokens_per_second"]


def step_seconds(*arguments) -> tuple[np.ndarray, np.ndarray]:
    """Median wall and CPU seconds of the optimizer steps behind the first two, and of their averaging, (2,) both."""
    clock, _ = trained(*arguments)
    steps = np.diff(clock.begins, axis=0)[2:]
    return np.median(steps, axis=0), np.median(clock.averaging or [[0, 0]], axis=0)


def loop_speed(size: str, training: Training, tokenizer, sequences) -> float:
    """Tokens a second of the loop that one would write oneself."""
    model = annotator(size).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(sequences))
    first, tokens, started = training.logging_steps * BATCH, 0, 0.0
    for number in range(0, len(sequences), BATCH):
        if number == first:
            synchronise()
            started = time.perf_counter()
        items = [sequences[i] for i in range(number, min(number + BATCH, len(sequences)))]
        batch = {name: tensor.to(DEVICE) for name, tensor in collate(items).items()}
        model(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if number >= first:
            tokens += sum(int((item["labels"] >= 0).sum()) for item in items)
    synchronise()
    return tokens / (time.perf_counter() - started)


def peak_memory(way: str, size: str, folder: str) -> int:
    """Bytes."""
    torch.set_num_threads(1)
    training, *rest = data(Path(folder), 256, "sequential", 6)
    training.chunked_loss = way == "chunked"
    (loop_speed if way == "plain loop" else trainer_speed)(size, training, *rest)
    return torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else resident("VmHWM")


def report_loop(folder: Path, sizes: list[str], repeats: int, steps: int) -> None:
    """Trainer against plain loop."""
    rows = []
    for size in sizes:
        arguments = data(folder, 1024 if DEVICE.type == "cuda" else 256, "sequential", steps)
        speeds: dict[str, list[float]] = {"plain loop": [], "trainer": []}
        for _ in range(repeats):
            speeds["plain loop"].append(loop_speed(size, *arguments))
            speeds["trainer"].append(trainer_speed(size, *arguments))
        plain, trainer = (statistics.median(values) for values in speeds.values())
        memory = [in_fresh_process(peak_memory, way, size, str(folder)) / 2**20 for way in speeds]
        millions = parameter_count(annotator(size)) / 1e6
        cells = [f"{plain:,.0f}", f"{trainer:,.0f}", f"{trainer / plain:.3f}", *(f"{peak:,.0f}" for peak in memory)]
        rows.append([f"{size} ({millions:.1f} M)", *cells])
    columns = ["model", "plain loop, tok/s", "trainer, tok/s", "ratio (aim 0.95)", "plain loop, MiB", "trainer, MiB"]
    print_table("Trainer against a plain loop", columns, rows)


def report_packing(folder: Path, size: str, repeats: int, steps: int) -> None:
    """Packed blocks against padded rows, in tokens that are learned."""
    ways = {packing: data(folder, 1024, packing, steps) for packing in ("none", "sequential")}
    speeds: dict[str, list[float]] = {packing: [] for packing in ways}
    for _ in range(repeats):
        for packing, arguments in ways.items():
            speeds[packing].append(trainer_speed(size, *arguments))
    padded, packed = (statistics.median(values) for values in speeds.values())
    columns = ["model", "rows, padded, tok/s", "packed, tok/s", "ratio"]
    row = [size, f"{padded:,.0f}", f"{packed:,.0f}", f"{packed / padded:.2f}"]
    print_table("Packing, at most 1,024 tokens a sequence", columns, [row])


def report_chunked(folder: Path, size: str, repeats: int, steps: int) -> None:
    """The trainer with chunked_loss against the trainer without."""
    training, *rest = data(folder, 256, "sequential", steps)
    ways = {"trainer": training, "chunked": dataclasses.replace(training, chunked_loss=True)}
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, keys in ways.items():
            speeds[way].append(trainer_speed(size, keys, *rest))
    whole, chunked = (statistics.median(values) for values in speeds.values())
    memory = [in_fresh_process(peak_memory, way, size, str(folder)) / 2**20 for way in ways]
    columns = ["model", "whole loss, tok/s", "chunked, tok/s", "ratio", "whole loss, MiB", "chunked, MiB"]
    row = [size, f"{whole:,.0f}", f"{chunked:,.0f}", f"{chunked / whole:.2f}", *(f"{peak:,.0f}" for peak in memory)]
    print_table(f"chunked_loss, {BATCH} sequences of 256 tokens", columns, [row])


def report_averaging(folder: Path, size: str, repeats: int, steps: int) -> None:
    """The trainer with the weights of every step averaged, the most that can be, against the trainer without."""
    training, *rest = data(folder, 256, "sequential", steps)
    every = Averaging(average="uniform", average_every=1, average_last=steps)
    ways = {"without": training, "with": dataclasses.replace(training, averaging=every)}
    taken: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, keys in ways.items():
            taken[way].append(step_seconds(size, keys, *rest))
    (plain, _), (averaged, alone) = (np.median(values, axis=0) for values in taken.values())
    rows = [
        [
            name,
            *(f"{time * 1e3:,.1f}" for time in times),
            f"{times[1] / times[0] - 1:+.1%}",
            f"{times[2] / times[1]:.2%}",
        ]
        for name, *times in zip(("wall", "CPU"), plain, averaged, alone, strict=True)
    ]
    columns = [
        "seconds",
        "step, ms",
        "with averaging, ms",
        "averaging alone, ms",
        "difference",
        "share (aim below 2 %)",
    ]
    millions = parameter_count(annotator(size)) / 1e6
    print_table(
        f"Weights of every step averaged, {size} ({millions:.1f} M), {BATCH} x 256 tokens a step", columns, rows
    )


def report_gpu(folder: Path, steps: int) -> None:
    """Utilisation of the 160M model; FLOPs of a token: 6 a weight but the input embedding, 6 layers width length."""
    training, tokenizer, sequences = data(folder, 1024, "sequential", steps, batch=64)
    training.dtype, training.compile = "bfloat16", True
    speed = trainer_speed("160m", training, tokenizer, sequences)
    model = annotator("160m")
    weights = parameter_count(model) - model.get_input_embeddings().weight.numel()
    config = model.config
    flops = 6 * weights + 6 * config.num_hidden_layers * config.hidden_size * 1024
    peak = matmul_peak(torch.bfloat16, 3)
    row = [f"{speed:,.0f}", f"{speed * flops / 1e12:.1f}", f"{peak / 1e12:.1f}", f"{speed * flops / peak:.1%}"]
    columns = ["tok/s", "model TFLOP/s", "matmul peak, TFLOP/s", "utilisation (aim 45 %)"]
    print_table("160M, 1,024 tokens, bfloat16, torch.compile", columns, [row])


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["160m"] if DEVICE.type == "cuda" else ["tiny", "16m"])
    parser.add_argument("--repeats", type=int, default=3, help="alternating runs, of which the median counts")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps of a run")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    asked = parser.parse_args()
    where = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"PyTorch {torch.__version__}, {where}")
    with tempfile.TemporaryDirectory() as name:
        if "loop" in asked.parts:
            report_loop(Path(name), asked.sizes, asked.repeats, asked.steps)
        if "packing" in asked.parts:
            report_packing(Path(name), asked.sizes[0], asked.repeats, asked.steps)
        if "chunked" in asked.parts:
            report_chunked(Path(name), asked.sizes[0], asked.repeats, asked.steps)
        if "averaging" in asked.parts:
            report_averaging(Path(name), asked.sizes[-1], asked.repeats, asked.steps)
        if "gpu" in asked.parts and DEVICE.type == "cuda":
            report_gpu(Path(name), asked.steps)


if __name__ == "__main__":
    main()
