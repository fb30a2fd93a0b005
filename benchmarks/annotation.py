"""Speed and memory of annotation and scoring, the costly steps of LQS and PDS, each beside what one would do else.

    python -m benchmarks.annotation                     160M Mistral annotator, CPU or GPU
    python -m benchmarks.annotation --size tiny         to try the script
    python -m benchmarks.annotation --parts scoring reverse

pass       the annotation pass against vmap(grad) over the whole model, and against a plain forward and backward
scoring    the data scorer against one text at a time padded to 1,024 tokens
reverse    memory of the reverse pass of the simulated training, in model sizes
bfloat16   the annotation pass in mixed precision against the matmul peak; only on a GPU

Prints Markdown tables. Times are medians of alternating runs in one process; memory is the peak of fresh processes.
CPU seconds count all threads, and suffer less than wall seconds where a machine has other work.
"""

import argparse

import torch

from benchmarks import annotation_pass, mixed_precision, reverse_memory, scoring
from benchmarks.models import DEVICE

PARTS = ("pass", "scoring", "reverse", "bfloat16")
# Data scorers beside an annotator of this size, and how many texts they score.
SCORERS = {"160m": {"124m": 32 if DEVICE.type == "cpu" else 2048, "6m": 128}, "tiny": {"tiny": 64}}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=SCORERS, default="160m", help="of the annotator")
    parser.add_argument("--repeats", type=int, default=3, help="alternating runs, of which the median counts")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    size, repeats = arguments.size, arguments.repeats
    where = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"PyTorch {torch.__version__}, {where}")
    if "pass" in arguments.parts:
        ways = ("annotation", "plain", "vmap(grad)")
        aim = "vmap(grad) 1.8 times the time and 6 times the memory or more, plain 1 / 1.15 = 0.87 of the time or more"
        annotation_pass.report(size, 4, 256, repeats, ways, aim)
        batch = 1 if DEVICE.type == "cpu" else 16
        annotation_pass.report(size, batch, 1024, repeats, ("annotation", "plain"), "plain 0.87 of the time or more")
    if "scoring" in arguments.parts:
        for scorer, texts in SCORERS[size].items():
            scoring.report(scorer, texts, repeats)
    if "reverse" in arguments.parts:
        reverse_memory.report("tiny" if size == "tiny" else "67m")
    if "bfloat16" in arguments.parts and DEVICE.type == "cuda":
        mixed_precision.report(size, repeats)


if __name__ == "__main__":
    main()
