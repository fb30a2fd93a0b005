"""Perplexity against bits per byte: how well they tell the main text of web pages from the whole pages.

    DELT_DATA=FOLDER python -m benchmarks.metrics [--vocab-sizes N,N,...] [--model FOLDER]

FOLDER is that of benchmarks/efficacy/README.md, with web_pages_main_vs_raw/main_text as well. Good is the main text of
309 pages, bad all that the same pages show (menus, notes on cookies, advertisements, footers). AUC is the probability
that a good text has the lower score of a random pair; within like lengths, that of the pairs in one fifth by length.
The models of `kenlm` learn from 122 articles of WikiText-2. --model: a causal language model for `perplexity` as well.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.efficacy import sources
from benchmarks.efficacy.junk_detection import auc
from benchmarks.measure import print_table
from data_common.calls.stage import REPOSITORY


def write(path: Path, rows: Iterable[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def within_fifths(score: np.ndarray, good: np.ndarray, length: np.ndarray) -> float:
    """AUC over the pairs of texts in the same fifth by length. score, good, length: (rows,); higher is better."""
    fifth = np.digitize(length, np.quantile(length, [0.2, 0.4, 0.6, 0.8]))
    pairs = [(score[(fifth == part) & good], score[(fifth == part) & ~good]) for part in range(5)]
    weights = [len(one) * len(other) for one, other in pairs]
    found = [auc(*pair) if weight else 0 for pair, weight in zip(pairs, weights, strict=True)]
    return float(np.average(found, weights=weights))


def judged(folder: Path, title: list[str], metrics: list[str], method: str, *keys: str) -> list[list[str]]:
    """A row of the table for each metric, of which the first is the default one, of a call on pages.jsonl."""
    out, (first, *others) = folder / f"{'-'.join(title)}.jsonl", metrics
    words = [str(folder / "pages.jsonl"), str(out), method, *keys]
    words += [f"score_field={first}", f"extra_metrics=[{','.join(others)}]"]
    command = [sys.executable, "-m", "data_scoring.entry", *words]
    subprocess.run(command, check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = list(sources.rows(out))
    good, length = np.array([row["good"] for row in rows]), np.array([len(row["text"]) for row in rows])
    scores = {metric: -np.array([row[metric] for row in rows]) for metric in metrics}
    return [
        [" ".join(title), metric, f"{auc(score[good], score[~good]):.3f}", f"{within_fifths(score, good, length):.3f}"]
        for metric, score in scores.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocab-sizes", default="2048,4000,8192,24000")
    parser.add_argument("--model", help="folder of a causal language model, for the method perplexity")
    given = parser.parse_args()
    if "DELT_DATA" not in os.environ:
        parser.error("DELT_DATA does not name the folder of real text")
    data = Path(os.environ["DELT_DATA"])
    pages = data / "web_pages_main_vs_raw"
    rows = [
        {"text": text, "good": name == "main_text"}
        for name in ("main_text", "raw_page_text")
        for text in sources.texts(pages / f"{name}.jsonl.gz")()
        if text.strip()
    ]
    table = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder / "good.jsonl", ({"text": text} for text in sources.real(data).reference()))
        write(folder / "pages.jsonl", rows)
        for preset in ("ccnet", "edugp"):
            for size in filter(None, given.vocab_sizes.split(",")):
                keys = [f"train_data={folder / 'good.jsonl'}", f"vocab_size={size}", f"normalization={preset}"]
                table += judged(folder, ["kenlm", preset, size], ["ppl", "bpb", "bpc"], "kenlm", *keys)
        if given.model:
            table += judged(folder, ["perplexity"], ["ppl", "nll", "bpb"], "perplexity", f"model={given.model}")
    print_table("Main text of web pages against whole pages", ["score", "metric", "AUC", "within like lengths"], table)


if __name__ == "__main__":
    main()
