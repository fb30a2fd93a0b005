"""Annotation in bfloat16 autocast: tokens a second, share of the matmul peak, rank correlation with float32.

Operations of the pass, two a multiplication and addition:

    6 x weights of the linear layers x tokens      forward, gradients of the inputs, per-sample gradients of the weights
                                                   (formed sample by sample, they cost what plain training's sum costs)
    6 x layers x width x tokens^2 a sample         causal attention: half of the 12 of all pairs
    4 x parameters a sample                        dot product and squared norm

The peak is what the largest of a few square bfloat16 products reaches in the same run.
"""

from functools import partial

import torch
from scipy.stats import spearmanr

from benchmarks.annotation_pass import annotation, random_inputs
from benchmarks.measure import alternate, print_table
from benchmarks.models import annotator, parameter_count
from data_scoring.influence.per_sample_gradients import PerSampleGradients

BATCH, TOKENS = 16, 1024
CALLS = 20  # of a product, in one measured run


def operations(model: torch.nn.Module, samples: int, tokens: int) -> float:
    """Of one annotation pass."""
    weights = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, torch.nn.Linear))
    attention = 6 * model.config.num_hidden_layers * model.config.hidden_size * tokens**2
    return samples * (6 * weights * tokens + attention + 4 * parameter_count(model))


def matmul_peak(device: torch.device, repeats: int, widths: tuple[int, ...] = (4096, 8192, 16384)) -> float:
    """Operations a second."""

    def multiply(factor: torch.Tensor) -> None:
        for _ in range(CALLS):
            factor @ factor

    factors = {width: torch.randn(width, width, dtype=torch.bfloat16, device=device) for width in widths}
    runs = alternate({str(width): partial(multiply, factor) for width, factor in factors.items()}, repeats)
    return max(2 * int(width) ** 3 * CALLS / run.wall for width, run in runs.items())


def report(size: str, repeats: int, batch: int = BATCH, tokens: int = TOKENS) -> None:
    """Measure and print the table."""
    model = annotator(size)
    documents, direction = random_inputs(model, batch, tokens)
    examples = [documents[0][:2]]
    readers = {"float32": PerSampleGradients(model, examples)}
    readers["bfloat16"] = PerSampleGradients(model, examples, autocast=torch.bfloat16)
    runs = alternate({kind: partial(annotation, r, documents, direction) for kind, r in readers.items()}, repeats)
    peak, needed = matmul_peak(model.device, repeats), operations(model, batch, tokens)
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
