"""The method kenlm: one core against a plain loop, two processes against one, training against lmplz.

    python -m benchmarks.kenlm [--rows N] [--train-tokens N] [--lmplz PATH]

The text is drawn from a Zipf distribution over made-up words, in documents of about 300 words. A plain loop normalises
(str methods and regular expressions, as CCNet does), tokenizes and queries one document after the other. Without
--lmplz only this estimator is timed.
"""

import argparse
import os
import re
import resource
import subprocess
import tempfile
import time
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measure import alternate, print_table
from data_common.models.tokens import batched
from data_common.parallel.processes import forked_map
from data_scoring.kenlm.arpa import write_arpa
from data_scoring.kenlm.estimator import estimate
from data_scoring.kenlm.language_model import Scores, load_model
from data_scoring.kenlm.method import PART
from data_scoring.kenlm.normalization import PRESETS, PUNCTUATION
from data_scoring.kenlm.tokenization import Sentences, sentencepiece, train_sentencepiece
from data_scoring.kenlm.training import read_tokens

DIGIT, CONTROL = re.compile(r"\d"), re.compile("[\x00-\x1f\x7f-\x9f]")
TABLE = {sign: ascii_sign for ascii_sign, signs in PUNCTUATION.items() for sign in signs}
WORDS = 50_000


def documents(count: int, seed: int) -> list[str]:
    """Sentences of made-up words with capitals, numbers, accents, Unicode quotes and newlines."""
    draw = np.random.default_rng(seed)
    letters = list("etaoinshrdlucmfwypvbgké")
    spelling = np.random.default_rng(0)
    words = np.array(["".join(spelling.choice(letters, size)) for size in spelling.integers(1, 10, WORDS)], object)
    texts = []
    for _ in range(count):
        sentences = []
        for length in draw.integers(5, 25, 20):
            chosen = words[np.minimum(draw.zipf(1.2, length), WORDS) - 1].tolist()
            chosen[-1] = f"“{chosen[-1]}” {draw.integers(0, 3000)}."
            sentences.append(" ".join(chosen).capitalize())
        texts.append("\n".join(sentences))
    return texts


def plain(texts: list[str], tokenize: Callable, score: Callable[[str], float]) -> np.ndarray:
    """What a script would do: perplexities, (n,)."""
    found = []
    for text in texts:
        line = text.strip().lower()
        line = "".join(sign for sign in unicodedata.normalize("NFD", line) if unicodedata.category(sign) != "Mn")
        line = DIGIT.sub("0", line)
        line = "".join([TABLE.get(sign, sign) for sign in line])
        tokens = tokenize(CONTROL.sub("", line))
        found.append(10 ** (-score(" ".join(tokens)) / (len(tokens) + 1)))
    return np.array(found)


def scored(scores: Scores, texts: list[str], workers: int) -> np.ndarray:
    """As the method does it, without files."""
    return np.concatenate(list(forked_map(scores, batched(texts, PART), workers)))[:, 0]


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def train_both(folder: Path, lines: list[str], wanted: int, lmplz: str | None) -> None:
    """Estimate and write an order-5 model of the first `wanted` tokens, tokenized already; so does lmplz."""
    kept, count = [], 0
    for line in lines:
        kept.append(line)
        count += line.count(" ") + 2  # with </s>
        if count >= wanted:
            break
    tokens, vocabulary = read_tokens(kept, lambda line: [line.split(" ")], 1)
    started, cpu = time.perf_counter(), time.process_time()
    sizes = write_arpa(folder / "ours.arpa", estimate(tokens, 5, len(vocabulary)), 5, tokens, vocabulary)
    rows = [["this estimator", f"{time.perf_counter() - started:.1f}", f"{time.process_time() - cpu:.1f}"]]
    if lmplz:
        (folder / "text").write_text("".join(f"{line}\n" for line in kept))
        started, cpu = time.perf_counter(), cpu_of_children()
        with open(folder / "text", "rb") as text, open(folder / "lmplz.arpa", "wb") as arpa:
            command = [lmplz, "-o", "5", "--discount_fallback", "-S", "2G", "-T", str(folder)]
            subprocess.run(command, stdin=text, stdout=arpa, stderr=subprocess.DEVNULL, check=True)
        rows.append(["lmplz", f"{time.perf_counter() - started:.1f}", f"{cpu_of_children() - cpu:.1f}"])
    title = f"Training, order 5: {count:,} tokens, vocabulary {len(vocabulary):,}, {sum(sizes):,} n-grams"
    print_table(title, ["estimator", "wall s", "CPU s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8 * PART)
    parser.add_argument("--train-tokens", type=int, default=6_000_000)
    parser.add_argument("--lmplz")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = documents(2000, 1)
        train_sentencepiece(map(PRESETS["ccnet"], good), folder / "sp.model", 16_000)
        tokenize = sentencepiece(str(folder / "sp.model"))
        sentences = Sentences(PRESETS["ccnet"], "document", tokenize)
        tokens, vocabulary = read_tokens(good, sentences, 1)
        write_arpa(folder / "lm.arpa", estimate(tokens, 5, len(vocabulary)), 5, tokens, vocabulary)
        model = load_model(str(folder / "lm.arpa"))
        texts = documents(arguments.rows, 2)
        scores = Scores(sentences, model, 1)
        ways = {
            "plain loop": partial(plain, texts, tokenize, model.score),
            "one process": partial(scored, scores, texts, 1),
            "two processes": partial(scored, scores, texts, 2),
        }
        runs = alternate(ways, arguments.repeats)
        for run in runs.values():
            np.testing.assert_allclose(run.result, runs["plain loop"].result, rtol=1e-9)
        base = runs["plain loop"].wall
        rows = [[way, f"{run.wall:.2f}", f"{base / run.wall:.2f}"] for way, run in runs.items()]
        count = sum(len(tokenize(PRESETS["ccnet"](text))) for text in texts)
        cores = len(os.sched_getaffinity(0))
        title = f"Scoring {len(texts):,} documents of {count:,} pieces on {cores} cores"
        print_table(title, ["way", "wall s", "speed against the plain loop"], rows)
        del tokens
        lines = [" ".join(sentence) for text in documents(20_000, 3) for sentence in sentences(text)]
        train_both(folder, lines, arguments.train_tokens, arguments.lmplz)


if __name__ == "__main__":
    main()
