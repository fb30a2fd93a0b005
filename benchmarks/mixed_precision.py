"""Annotation in bfloat16 autocast: tokens a second, share of the matmul peak, rank correlation with float32."""

from functools import partial

import torch
from scipy.stats import spearmanr

from benchmarks.annotation_pass import annotation, random_inputs
from benchmarks.measure import alternate, print_table
from benchmarks.models import annotator
from benchmarks.peak import matmul_peak, operations
from data_scoring.engines.influence.per_sample_gradients import PerSampleGradients

BATCH, TOKENS = 16, 1024


def report(size: str, repeats: int, batch: int = BATCH, tokens: int = TOKENS) -> None:
    """Measure and print the table."""
    model = annotator(size)
    documents, direction = random_inputs(model, batch, tokens)
    examples = [documents[0][:2]]
    readers = {"float32": PerSampleGradients(model, examples)}
    readers["bfloat16"] = PerSampleGradients(model, examples, autocast=torch.bfloat16)
    runs = alternate({kind: partial(annotation, r, documents, direction) for kind, r in readers.items()}, repeats)
    peak, needed = matmul_peak(torch.bfloat16, repeats), operations(model, batch, tokens)
    exact_dots, exact_norms = runs["float32"].result
    rows = []
    for kind, run in runs.items():
        dots, norms = run.result
        pairs = (dots, exact_dots), (norms, exact_norms), (dots / norms, exact_dots / exact_norms)
        share = needed / run.wall / peak
        correlations = [f"{spearmanr(one, other).statistic:.4f}" for one, other in pairs]
        rows.append([kind, f"{run.wall:.3f}", f"{batch * tokens / run.wall:,.0f}", f"{share:.0%}", *correlations])
    columns = ["precision", "wall s", "tokens / s", "share of peak", "Spearman of dot", "of norm", "of dot / norm"]
    title = f"Annotation, {size}, {batch} x {tokens:,} tokens, {needed / 1e12:.1f} Tflop; bfloat16 matmul peak "
    print_table(title + f"{peak / 1e12:.0f} Tflop/s (aim: bfloat16 40 % of it, Spearman 0.99)", columns, rows)
