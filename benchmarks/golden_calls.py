"""CPU seconds of every method's golden call (tests/golden.py) in two checkouts: is the second one slower anywhere?

python -m benchmarks.golden_calls OLD NEW [--methods lqs perplexity] [--keys proxy_size=100] [--rows 200] [--repeats 5]

OLD and NEW are folders of the repository. A call is a fresh process of one thread, with imports; both run in turn,
after one round that does not count. Medians, and NEW / OLD. Ends with 1 where a ratio is above --limit.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests import golden


def write_inputs(folder: Path, rows: int | None) -> None:
    """The golden inputs; with `rows`, as many rows, by repetition."""
    golden.write_inputs(folder)
    if rows is not None:
        known = (folder / "in.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        lines = [json.loads(known[number % len(known)]) | {"id": number} for number in range(rows)]
        (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def cpu_seconds(checkout: Path, inputs: Path, words: Sequence[str]) -> float:
    """CPU seconds of one call, its processes included. words: the module of the stage, then those of the call."""
    with tempfile.TemporaryDirectory() as folder:
        for path in inputs.iterdir():
            (Path(folder) / path.name).symlink_to(path)
        own = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "DELT_CACHE": str(Path(folder) / "cache")}
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=folder,
            env=os.environ | own | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(words)} failed in {checkout}")
    return usage.ru_utime + usage.ru_stime


def compare(checkouts: Sequence[Path], inputs: Path, words: Sequence[str], repeats: int) -> list[float]:
    """The median seconds of a call in each of the checkouts."""
    rounds = [[cpu_seconds(checkout, inputs, words) for checkout in checkouts] for _ in range(repeats + 1)][1:]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def main() -> int:
    """Print the table; -> 1 where a method is slower than the limit allows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--methods", nargs="*", help="names; all where none is given")
    parser.add_argument("--keys", nargs="*", default=[], help="key=value words, beside those of the golden call")
    parser.add_argument("--rows", type=int, help="rows of the corpus in place of the golden ones")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=1.05)
    words = parser.parse_args()
    checkouts, slower = [words.old.resolve(), words.new.resolve()], False
    print(f"{'method':<36} {'old':>7} {'new':>7} {'ratio':>6}   CPU seconds, medians of {words.repeats}")
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), words.rows)
        for small in golden.calls():
            if words.methods and small.method not in words.methods:
                continue
            call = [f"{small.stage.name}.entry", *golden.words(small), *words.keys]
            old, new = compare(checkouts, Path(folder), call, words.repeats)
            slower |= new > words.limit * old
            print(f"{small.key:<36} {old:>7.2f} {new:>7.2f} {new / old:>6.2f}", flush=True)
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
