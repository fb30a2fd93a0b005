"""Selection by a score file beside the text, in CPU seconds, beside `cp` of the same text.

    python -m benchmarks.score_files
    python -m benchmarks.score_files --gigabytes 0.3 --repeats 5

`top-r r=0.5` reads its scores from an .npy that is bound to the corpus, and writes half of the rows. The ways run in
turn, each in a process of its own; user and system seconds count. The digest of the corpus is remembered, as it is once
scoring has read it; `first call` has to make it. Floors: `lines` finds where the lines begin and does nothing else;
`half` is `head -c` of half of the bytes; `start` is `--help`, the start of Python and its modules. The files lie in a
temporary folder (TMPDIR; twice the size is needed) and are removed.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.jsonl import make_corpus
from benchmarks.measure import print_table
from data_common.files.atomic import draft_of, write_array
from data_common.files.contents import SETTLED
from data_common.files.fingerprint import fingerprint
from data_common.files.manifest import Run

REPOSITORY = Path(__file__).resolve().parent.parent
ROW_BYTES = 2500


def make_scores(path: Path, corpus: Path, rows: int) -> None:
    """An .npy of random scores with the manifest that binds it to the corpus, as scoring writes them."""
    run = Run("data_scoring", "random", {}, {"data": [str(corpus)]}, str(path), {"score": "higher"})
    with draft_of(path) as draft:
        with open(draft, "wb") as file:
            write_array(file, np.random.default_rng(0).random(rows))
        run.finish(draft, corpus=[fingerprint(corpus)], fields=["score"])


def ways(folder: Path) -> dict[str, list[str]]:
    """Name -> command that reads `in.jsonl` in the folder and writes `out.jsonl`."""
    source, out = str(folder / "in.jsonl"), str(folder / "out.jsonl")
    selection = [sys.executable, "-m", "data_selection.entry"]
    select = [*selection, source, out, "top-r", "r=0.5", "cache=false"]
    lines = "from data_common.rows import columns, jsonl\nwith jsonl.open_source(PATH) as s: columns.scan_lines(s)"
    return {
        "cp": ["cp", source, out],
        "scores=.npy": [*select, f"scores={folder / 'scores.npy'}"],
        "first call": [*select, f"scores={folder / 'scores.npy'}"],
        "score in the text": [*select, "direction=higher"],
        "lines": [sys.executable, "-c", lines.replace("PATH", repr(source))],
        "half": ["bash", "-c", 'head -c "$1" "$2" > "$3"', "half", str(Path(source).stat().st_size // 2), source, out],
        "start": [*selection, "--help"],
    }


def cpu_seconds(command: list[str], cache: Path) -> float:
    """User and system seconds of a command and the processes that it starts. Raises: CalledProcessError."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"DELT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as for any user
    environment["PYTHONPYCACHEPREFIX"] = str(cache.with_name("compiled"))
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path, repeats: int, report: Callable[[str], None]) -> dict[str, list[float]]:
    """CPU seconds of each way in every round, after one that does not count."""
    commands = ways(folder)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(repeats + 1):
        for name, command in commands.items():
            cache = folder / ("cold" if name == "first call" else "cache")
            shutil.rmtree(folder / "cold", ignore_errors=True)
            seconds[name].append(cpu_seconds(command, cache))
            for made in folder.glob("out.jsonl*"):
                made.unlink()
        report(f"round {number} of {repeats}")
    return {name: values[1:] for name, values in seconds.items()}


def main() -> None:
    """Make the corpus and its scores, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=3, help="size of the text")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, of which the median counts")
    parser.add_argument("--folder", help="where to put the files; else a temporary folder")
    arguments = parser.parse_args()
    rows = int(arguments.gigabytes * 1e9 / ROW_BYTES)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        make_corpus(folder / "in.jsonl", rows, ROW_BYTES)
        time.sleep(SETTLED + 1)  # else its digest is not remembered
        make_scores(folder / "scores.npy", folder / "in.jsonl", rows)
        size = (folder / "in.jsonl").stat().st_size / 1e9
        seconds = measure(folder, arguments.repeats, lambda line: print(line, file=sys.stderr))
    table = []
    for way, values in seconds.items():
        pairs = [(pick(values), pick(seconds["cp"])) for pick in (statistics.median, min)]
        table.append([way, *(f"{own:.2f}" for own, _ in pairs), *(f"{own / cp:.2f}" for own, cp in pairs)])
    title = f"{rows:,} rows, {size:.2f} GB, {arguments.repeats} rounds"
    print_table(title, ["way", "CPU s (median)", "(least)", "of cp (median)", "(least)"], table)


if __name__ == "__main__":
    main()
