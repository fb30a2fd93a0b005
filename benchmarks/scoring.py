"""The data scorer over texts of lognormal length, against one text at a time padded to 1,024 tokens.

Lengths are the evenly spaced quantiles of a lognormal distribution whose logarithm has standard deviation 1, cut to
1,024 tokens, with the median chosen (by bisection) such that the mean after cutting is 323 tokens.
"""

from functools import partial
from statistics import NormalDist

import numpy as np
import torch

from benchmarks.measure import alternate, print_table
from benchmarks.models import DEVICE, parameter_count, scorer_backbone
from data_common.models.tokens import TokenStore
from data_scoring.engines.influence import data_scorer

LONGEST, MEAN, DEVIATION = 1024, 323, 1.0
BATCH_TOKENS = 1024 if DEVICE.type == "cpu" else 65536


def lognormal_lengths(count: int) -> np.ndarray:
    """`count` text lengths in tokens, in random order."""
    normal = np.array([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
    low, high = 0.0, np.log(LONGEST)  # of the logarithm of the median
    for _ in range(50):
        middle = (low + high) / 2
        lengths = np.exp(middle + DEVIATION * normal).clip(2, LONGEST)
        low, high = (middle, high) if lengths.mean() < MEAN else (low, middle)
    return np.random.default_rng(0).permutation(lengths.round().astype(np.int64))


def random_texts(count: int, vocabulary: int) -> TokenStore:
    """`count` texts of random tokens."""
    lengths = lognormal_lengths(count)
    tokens = np.random.default_rng(1).integers(0, vocabulary, lengths.sum())
    return TokenStore(tokens, np.cumsum(lengths) - lengths, lengths)


@torch.inference_mode()
def one_by_one(scorer: data_scorer.DataScorer, texts: TokenStore) -> np.ndarray:
    """Every text alone, padded to the longest length that may occur, with its mask."""
    predictions = np.empty(len(texts), np.float32)
    for number, text in enumerate(texts):
        ids = torch.zeros(1, LONGEST, dtype=torch.long)
        ids[0, : len(text)] = torch.from_numpy(text)
        mask = torch.arange(LONGEST)[None] < len(text)
        hidden = scorer.backbone(input_ids=ids.to(DEVICE), attention_mask=mask.long().to(DEVICE)).last_hidden_state
        predictions[number] = scorer.head(hidden[0, : len(text)].mean(0)).item()
    return predictions


def report(size: str, count: int, repeats: int) -> None:
    """Measure `count` texts, a sixteenth of them also one at a time, and print the table."""
    scorers = {kind: data_scorer.DataScorer(scorer_backbone(size, kind)).eval() for kind in ("sdpa", "eager")}
    backbone = scorers["sdpa"].backbone
    texts = random_texts(count, backbone.config.vocab_size)
    few = np.arange(count // 16)  # padded, all cost the same: these are enough
    ways = {"length-sorted batches": partial(data_scorer.predict, scorers["sdpa"], texts, BATCH_TOKENS)}
    for kind, scorer in scorers.items():
        ways[f"one text at a time, {kind}"] = partial(one_by_one, scorer, texts.take(few))
    runs = alternate(ways, repeats)
    ours = runs["length-sorted batches"]
    rows = []
    for name, run in runs.items():
        done = len(run.result)
        slower = [run[i] / done / (ours[i] / count) for i in (0, 1)]
        error = np.abs(run.result - ours.result[:done]).max() / ours.result.std()
        rows.append([name, done, f"{done / run.wall:.2f}", f"{done / run.cpu:.2f}"])
        rows[-1] += [f"{slower[0]:.2f}", f"{slower[1]:.2f}", f"{error:.1e}"]
    millions = parameter_count(backbone) / 1e6
    title = f"Scoring, {millions:.0f}M GPT-2, float32, texts of {texts.lengths.mean():.0f} tokens on average, "
    title += f"{BATCH_TOKENS:,} tokens a batch (aim: 6 times as fast, equal to 1e-4)"
    columns = ["way", "texts", "texts / s", "texts / CPU s", "times as fast (wall)", "(CPU)", "largest difference / sd"]
    print_table(title, columns, rows)
