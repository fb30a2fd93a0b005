"""dsir beside the authors' package data-selection 1.0.3: the same weights, and CPU seconds from file to weights.

pip install --target PACKAGE --no-deps data-selection==1.0.3        (its folder is called as a stage here is)
DELT_DATA=... python -m benchmarks.dsir PACKAGE [--repeats 3]

1,000 documents of C4, towards 60 texts of the Brown corpus; both run in one process each, in turn.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from data_common.calls.cli import main
from data_scoring.entry import STAGE

THEIRS = """
import sys, time
sys.path.insert(0, sys.argv[1])
started = time.process_time()
from data_selection import HashedNgramDSIR
method = HashedNgramDSIR(["raw.jsonl"], ["target.jsonl"], "cache", num_proc=1)
method.fit_importance_estimator("all")
method.compute_importance_weights()
print(time.process_time() - started)
"""


def run(package: str, repeats: int) -> None:
    """Print both times, their ratio and the largest difference of a weight."""
    write_inputs()
    seconds: dict[str, list[float]] = {"dsir": [], "data-selection": []}
    for repeat in range(repeats):
        started = time.process_time()
        assert main(STAGE, ["raw.jsonl", f"{repeat}.jsonl", "dsir", "target_data=target.jsonl", "workers=1"]) == 0
        seconds["dsir"].append(time.process_time() - started)
        command = [sys.executable, "-P", "-W", "ignore", "-c", THEIRS, package]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds["data-selection"].append(float(found.stdout.strip().split("\n")[-1]))
    with open("0.jsonl") as file:
        ours = np.array([json.loads(line)["score"] for line in file])
    theirs = np.load("cache/log_importance_weights/0.npy")
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    print("\n".join(f"{name}: {medians[name]:.2f} CPU s (median of {repeats})" for name in medians))
    print(f"ratio {medians['data-selection'] / medians['dsir']:.1f}")
    print(f"the weights differ by {np.abs(ours - theirs).max():.1e}")


def write_inputs() -> None:
    """The corpus and the target as plain files in the working folder."""
    data = Path(os.environ["DELT_DATA"])
    for source, target, count in (
        (data / "c4_en/c4_en_train_head_1000.jsonl.gz", "raw.jsonl", 1000),
        (data / "brown/brown_500.jsonl.gz", "target.jsonl", 60),
    ):
        with gzip.open(source) as lines, open(target, "wb") as file:
            file.writelines(line for _, line in zip(range(count), lines, strict=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=os.path.abspath, help="folder into which data-selection was installed")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run(asked.package, asked.repeats)
