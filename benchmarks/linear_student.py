"""The linear student beside fastText: area under the ROC curve on held-out texts, and texts judged per CPU second.

DELT_DATA=... python -m benchmarks.linear_student [--repeats 5]      needs the package fasttext-community

Both learn from every other text of two kinds and judge the rest: bigrams, 2^20 buckets, one thread. fastText runs at
its own defaults (five epochs) and at 25; its times are those of five. Its texts are made one line beforehand.
"""

import argparse
import gzip
import json
import os
import tempfile
from pathlib import Path

import fasttext
import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.measure import alternate, print_table
from data_scoring.engines.linear_student import Linear, fit

PAIRS = {
    "extracted text, whole page": ("web_pages_main_vs_raw/main_text", "web_pages_main_vs_raw/raw_page_text"),
    "Wikipedia, C4": ("wikipedia_demo/wiki_demo", "c4_en/c4_en_train_head_1000"),
    "OpenWebText, C4": ("openwebtext_1k/openwebtext_1000", "c4_en/c4_en_train_head_1000"),
}
MARK = "__label__"


def texts_of(file: str) -> list[str]:
    """All texts of a file of the data folder."""
    with gzip.open(Path(os.environ["DELT_DATA"], f"{file}.jsonl.gz")) as lines:
        return [json.loads(line)["text"] for line in lines]


def trained_fasttext(lines: list[str], labels: np.ndarray, epochs: int):
    """A classifier of fastText."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.writelines(f"{MARK}{label} {line}\n" for label, line in zip(labels, lines, strict=True))
        file.flush()
        return fasttext.train_supervised(
            file.name, wordNgrams=2, bucket=2**20, epoch=epochs, thread=1, verbose=0, seed=0
        )


def judged(model, lines: list[str]) -> np.ndarray:
    """Probability of the class 1 for each line."""
    labels, probabilities = model.predict(lines, k=1)
    sure = np.array([probability[0] for probability in probabilities])
    return np.where([label[0] == f"{MARK}1" for label in labels], sure, 1 - sure)


def compared(good: str, bad: str, repeats: int) -> list[str]:
    """A row of the table: texts, three areas, CPU milliseconds of both, and how many times as fast the student is."""
    kinds = [texts_of(file) for file in (bad, good)]
    texts, label = [*kinds[0], *kinds[1]], np.repeat([0, 1], [len(kind) for kind in kinds])
    lines = [" ".join(text.split()) for text in texts]
    learn = np.concatenate([np.arange(len(kind)) % 2 == 0 for kind in kinds])
    test = ~learn
    settings = Linear()
    student = fit(settings.features([texts[row] for row in np.flatnonzero(learn)]), label[learn], settings)
    examples = [lines[row] for row in np.flatnonzero(learn)]
    short, long = (trained_fasttext(examples, label[learn], epochs) for epochs in (5, 25))
    their_lines, our_texts = ([kind[row] for row in np.flatnonzero(test)] for kind in (lines, texts))
    ways = {"student": lambda: student(our_texts), "fastText": lambda: judged(short, their_lines)}
    runs = alternate(ways, repeats)
    areas = [runs["student"].result, runs["fastText"].result, judged(long, their_lines)]
    numbers = [f"{roc_auc_score(label[test], scores):.3f}" for scores in areas]
    ours, theirs = (runs[name].cpu for name in ways)
    return [str(len(our_texts)), *numbers, f"{1000 * ours:.0f}", f"{1000 * theirs:.0f}", f"{theirs / ours:.2f}"]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], prog="python -m benchmarks.linear_student")
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    head = ["kinds", "texts judged", "AUC student", "AUC fastText", "25 epochs", "CPU ms student", "fastText", "ratio"]
    rows = [[name, *compared(*pair, repeats)] for name, pair in PAIRS.items()]
    print_table("The linear student beside fastText", head, rows)


if __name__ == "__main__":
    main()
