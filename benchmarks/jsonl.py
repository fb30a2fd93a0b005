"""Select the best half of a JSONL corpus and fold it: this project against other ways to do the same, and `cp`.

    python -m benchmarks.jsonl                    200k rows, 0.5 GB: a minute
    python -m benchmarks.jsonl --large            2M rows, 3 GB: some minutes, 9 GB of disk
    python -m benchmarks.jsonl --rows 2000 --ways ours,fused,dicts    seconds, to try the script

Every way runs in fresh processes, the ways in turn, so that all see the same machine. Columns of the table: median
wall seconds; CPU seconds (user and system) of its processes; the most private memory of any of them and its workers
together (anonymous pages, RssAnon, sampled every 10 ms; pages of mapped files are no private memory, those that
workers share are counted for each); rows of the result that are byte-equal to a line of the input; whether the rows
stand in the same order as ours.
Polars, DuckDB and datasets are no requirements of the project: pip install polars duckdb datasets.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDS = 3


# --- The corpus ----------------------------------------------------------------------------------------------------


WORDS = """the of and to in is that for it with as was on are by this be from at which data model training language
efficacy learning sample order score quality select between through because people would number system during early
several following according important different information development government"""
RARE = ["naïve", "it\u2019s", "—", "“quoted”", "£5", "東京", "über", r"\u00e9t\u00e9", r"\n\n", r"\"said\"", r"\/"]


def make_corpus(path: Path, rows: int, row_bytes: int) -> None:
    """Rows of English text with a score, and with numbers as people write them, a big integer, a nested object.

    One word in 25 has characters beyond ASCII or escapes: 1.2 % of the bytes are beyond ASCII and 0.4 % backslashes
    (C4: 0.7 % and 0.4 %, OpenWebText: 1.3 % and 0.9 %).
    """
    generator = random.Random(0)
    texts, words = [], WORDS.split()
    for _ in range(997):
        text, wanted = "", generator.uniform(0.3, 1.7) * (row_bytes - 130)
        while len(text) < wanted:
            text += generator.choice(RARE if generator.random() < 0.04 else words) + " "
        texts.append(text[:-1])
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for number in range(rows):
            text = texts[number * 7919 % 997]
            numbers = f'"id": {2**64 + number}, "weight": 1.50, "rate": 1E-3'
            meta = f'"meta": {{"source": "shard-{number % 13}", "tags": []}}'
            file.write(f'{{"text": "{text}", {numbers}, {meta}, "score": {generator.gauss(0, 1):.6f}}}\n')


# --- The ways: each reads IN, keeps the best half in input order, folds it by score, writes OUT ----------------------


def stage(name: str, *words: str) -> list[str]:
    """One call of a stage of this project, without its column cache."""
    return [sys.executable, "-m", f"{name}.entry", *words, "cache=false"]


def ours(source: str, target: str) -> list[list[str]]:
    """Two calls with a file between them."""
    middle = target + ".selected.jsonl"
    return [
        stage("data_selection", source, middle, "top-r", "r=0.5", "direction=higher"),
        stage("data_ordering", middle, target, "folding", f"folding_layer={FOLDS}"),
    ]


def fused(source: str, target: str) -> list[list[str]]:
    """One call."""
    choice = ("select=top-r", "select.r=0.5", "select.direction=higher")
    return [stage("data_ordering", source, target, "folding", f"folding_layer={FOLDS}", *choice)]


def permutation(source: str, target: str) -> list[list[str]]:
    """All rows folded: the same bytes as `cp` writes."""
    return [stage("data_ordering", source, target, "folding", f"folding_layer={FOLDS}")]


def cp(source: str, target: str) -> list[list[str]]:
    """The floor: one copy of the input."""
    return [["cp", source, target]]


def dicts(source: str, target: str) -> None:
    """What research code does: every row a dict in memory, stdlib json, a file between the two steps."""
    middle = target + ".selected.jsonl"
    rows = _load(source)
    best = sorted(range(len(rows)), key=lambda i: -rows[i]["score"])[: len(rows) // 2]
    _dump(middle, [rows[i] for i in sorted(best)])
    del rows
    rows = _load(middle)
    rows.sort(key=lambda row: row["score"])
    _dump(target, [row for fold in range(FOLDS) for row in rows[fold::FOLDS]])


def _load(path: str) -> list[dict]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _dump(path: str, rows: list[dict]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def polars(source: str, target: str) -> None:
    """Eager frames; integers beyond 64 bits must be declared as text or Polars refuses the file."""
    import polars as pl

    frame = pl.read_ndjson(source, schema_overrides={"id": pl.String})
    half = frame.with_row_index("row").sort("score", descending=True, maintain_order=True).head(len(frame) // 2)
    ranked = half.sort("row").drop("row").sort("score", maintain_order=True)
    pl.concat([ranked.gather_every(FOLDS, fold) for fold in range(FOLDS)]).write_ndjson(target)


def duckdb(source: str, target: str) -> None:
    """SQL over read_json; the result is written as JSON lines."""
    import duckdb

    folder = os.path.dirname(target)
    duckdb.sql(f"SET temp_directory = '{folder}'; SET preserve_insertion_order = true")
    duckdb.sql(f"""
        COPY (
            WITH numbered AS (
                SELECT *, row_number() OVER () AS number
                FROM read_json('{source}', format = 'newline_delimited', maximum_object_size = 100000000)
            ), best AS (
                SELECT * FROM numbered ORDER BY score DESC, number LIMIT (SELECT count(*) // 2 FROM numbered)
            ), ranked AS (
                SELECT *, row_number() OVER (ORDER BY score, number) - 1 AS rank FROM best
            )
            SELECT * EXCLUDE (number, rank) FROM ranked ORDER BY rank % {FOLDS}, rank
        ) TO '{target}' (FORMAT json)""")


def datasets(source: str, target: str) -> None:
    """Hugging Face datasets: Arrow on disk, index mappings, to_json."""
    os.environ["HF_DATASETS_CACHE"] = target + ".cache"
    import numpy as np
    from datasets import load_dataset

    rows = load_dataset("json", data_files=source, split="train")
    score = np.array(rows["score"])
    best = np.sort(np.argsort(-score, kind="stable")[: len(rows) // 2])
    ranked = best[np.argsort(score[best], kind="stable")]
    order = np.concatenate([ranked[fold::FOLDS] for fold in range(FOLDS)])
    rows.select(order).to_json(target, force_ascii=False)


COMMANDS = {way.__name__: way for way in (ours, fused, permutation, cp)}
FUNCTIONS = {way.__name__: way for way in (dicts, polars, duckdb, datasets)}
WAYS = ("ours", "fused", "permutation", "cp", "dicts", "polars", "duckdb", "datasets")
PACKAGES = ("polars", "duckdb", "datasets")


# --- Measuring -------------------------------------------------------------------------------------------------------


def private_bytes(process: int) -> int:
    """Anonymous resident memory of a process and those that it started, in bytes."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
        started = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8")
    except OSError:
        return 0  # it ended in the meantime
    own = sum(int(line.split()[1]) * 1024 for line in status.split("\n") if line.startswith("RssAnon"))
    return own + sum(private_bytes(int(child)) for child in started.split())


def measure(way: str, source: Path, target: Path) -> dict[str, float]:
    """Run one way in fresh processes -> wall and CPU seconds, private bytes. Raises: RuntimeError where it fails."""
    if way in COMMANDS:
        commands = COMMANDS[way](str(source), str(target))
    else:
        commands = [[sys.executable, "-m", "benchmarks.jsonl", "--run", way, str(source), str(target)]]
    before, begin, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0
    for command in commands:
        with tempfile.TemporaryFile("w+") as messages:
            process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=messages)
            while process.poll() is None:
                peak = max(peak, private_bytes(process.pid))
                time.sleep(0.01)
            if process.returncode:
                messages.seek(0)
                last = messages.read().strip().split("\n")[-1]
                raise RuntimeError(f"{way}: exit code {process.returncode}: {last}")
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - begin
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "memory": peak}


def fidelity(source: Path, target: Path) -> tuple[float, str]:
    """Share of the lines of `target` that are lines of `source`, and a digest of the order of their scores."""
    with open(source, "rb") as file:
        known = {hash(line) for line in file}
    equal = count = 0
    order = hashlib.sha256()
    with open(target, "rb") as file:
        for line in file:
            count += 1
            equal += hash(line) in known
            order.update(b"%.6f" % json.loads(line)["score"])
    return equal / max(count, 1), order.hexdigest()


def main() -> None:
    """Make the corpus, measure the ways in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--large", action="store_true", help="2M rows of 1.5 kB; else 200k rows of 2.5 kB")
    parser.add_argument("--rows", type=int, help="another number of rows")
    parser.add_argument("--row-bytes", type=int, help="another mean size of a row")
    parser.add_argument("--ways", help=f"some of {','.join(WAYS)}; all without it")
    parser.add_argument("--repeats", type=int, default=1, help="rounds, of which the median counts")
    parser.add_argument("--folder", help="where to put the files; else a temporary folder")
    parser.add_argument("--run", nargs=3, metavar=("WAY", "IN", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        way, source, target = arguments.run
        FUNCTIONS[way](source, target)
        return
    rows = arguments.rows or (2_000_000 if arguments.large else 200_000)
    row_bytes = arguments.row_bytes or (1500 if arguments.large else 2500)
    ways = arguments.ways.split(",") if arguments.ways else list(WAYS)
    for name in PACKAGES:
        if name in ways and importlib.util.find_spec(name) is None:
            print(f"without {name}: {sys.executable} -m pip install {name}")
            ways.remove(name)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        report(Path(folder), rows, row_bytes, ways, arguments.repeats)


def report(folder: Path, rows: int, row_bytes: int, ways: list[str], repeats: int) -> None:
    """Measure in `folder` and print a Markdown table."""
    source = folder / "in.jsonl"
    make_corpus(source, rows, row_bytes)
    print(f"{rows:,} rows, {source.stat().st_size / 1e9:.2f} GB, {os.cpu_count()} cores\n")
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    checked: dict[str, tuple[float, str]] = {}
    for _ in range(repeats):
        for way in ways:
            (folder / way).mkdir()
            target = folder / way / "out.jsonl"
            try:
                runs[way].append(measure(way, source, target))
                if way not in checked:
                    checked[way] = fidelity(source, target)
            except RuntimeError as error:
                print(error, file=sys.stderr)
            shutil.rmtree(folder / way)
    print("| way | wall s | CPU s | private MB | private bytes a row | byte-equal | order |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for way in filter(runs.get, ways):
        wall, cpu, memory = (statistics.median(run[key] for run in runs[way]) for key in ("wall", "cpu", "memory"))
        share, order = checked[way]
        same = "" if way in ("cp", "permutation") else "as ours" if order == checked[ways[0]][1] else "another"
        print(
            f"| {way} | {wall:.2f} | {cpu:.2f} | {memory / 1e6:.0f} | {memory / rows:.0f} | {share:.1%} | {same} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
