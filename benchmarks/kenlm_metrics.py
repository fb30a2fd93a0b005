"""The method kenlm: how well perplexity and bits per byte tell the main text of web pages from the whole pages.

    DELT_DATA=FOLDER python -m benchmarks.kenlm_metrics [--vocab-sizes N,N,...]

FOLDER is that of benchmarks/efficacy/README.md, with web_pages_main_vs_raw/main_text as well. The models learn from
122 articles of WikiText-2. Good is the main text of 309 pages, bad all that the same pages show (menus, notes on
cookies, advertisements, footers). AUC is the probability that a good text has the lower score of a random pair; that
within fifths by length compares texts of like length alone.
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
from benchmarks.efficacy.truth import auc
from benchmarks.measure import print_table
from common.cli import REPOSITORY

METRICS = ("ppl", "bpb", "bpc")


def write(path: Path, rows: Iterable[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def within_fifths(score: np.ndarray, good: np.ndarray, length: np.ndarray) -> float:
    """AUC over the pairs of texts in the same fifth by length. score, good, length: (rows,); higher is better."""
    fifth = np.digitize(length, np.quantile(length, [0.2, 0.4, 0.6, 0.8]))
    pairs = [(score[(fifth == part) & good], score[(fifth == part) & ~good]) for part in range(5)]
    weights = [len(one) * len(other) for one, other in pairs]
    return float(
        np.average([auc(*pair) if weight else 0 for pair, weight in zip(pairs, weights, strict=True)], weights=weights)
    )


def scored(folder: Path, vocab_size: int, normalization: str) -> list[dict]:
    """The rows of pages.jsonl with all metrics under a model trained with these keys."""
    out = folder / f"{normalization}-{vocab_size}.jsonl"
    keys = [f"train_data={folder / 'good.jsonl'}", f"vocab_size={vocab_size}", f"normalization={normalization}"]
    command = [sys.executable, "-m", "data_scoring.entry", str(folder / "pages.jsonl"), str(out), "kenlm", *keys]
    command += ["score_field=ppl", "extra_metrics=[bpb, bpc]"]
    subprocess.run(command, check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return list(sources.rows(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocab-sizes", default="2048,4000,8192,24000")
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
        for normalization in ("ccnet", "edugp"):
            for vocab_size in map(int, given.vocab_sizes.split(",")):
                found = scored(folder, vocab_size, normalization)
                good = np.array([row["good"] for row in found])
                length = np.array([len(row["text"]) for row in found])
                for metric in METRICS:
                    score = -np.array([row[metric] for row in found])
                    values = auc(score[good], score[~good]), within_fifths(score, good, length)
                    table.append([normalization, f"{vocab_size:,}", metric, *(f"{value:.3f}" for value in values)])
    print_table(
        "Main text of web pages against whole pages",
        ["normalization", "pieces", "metric", "AUC", "AUC within like lengths"],
        table,
    )


if __name__ == "__main__":
    main()
