"""Operations that an annotation pass needs, and the most that the machine does a second in matrix products.

Operations of the pass, two a multiplication and addition:

    6 x weights of the linear layers x tokens      forward, gradients of the inputs, per-sample gradients of the weights
                                                   (formed sample by sample, they cost what plain training's sum costs)
    6 x layers x width x tokens^2 a sample         causal attention: half of the 12 of all pairs
    4 x parameters a sample                        dot product and squared norm

The peak is what the largest of a few square products reaches in the same run.
"""

from functools import partial

import torch

from benchmarks.measure import alternate
from benchmarks.models import DEVICE, parameter_count

WIDTHS = (1024, 2048) if DEVICE.type == "cpu" else (4096, 8192, 16384)
CALLS = 20  # of a product, in one measured run


def operations(model: torch.nn.Module, samples: int, tokens: int) -> float:
    """Of one annotation pass."""
    weights = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, torch.nn.Linear))
    attention = 6 * model.config.num_hidden_layers * model.config.hidden_size * tokens**2
    return samples * (6 * weights * tokens + attention + 4 * parameter_count(model))


def matmul_peak(dtype: torch.dtype, repeats: int) -> float:
    """Operations a second."""

    def multiply(factor: torch.Tensor) -> None:
        for _ in range(CALLS):
            factor @ factor

    factors = {width: torch.randn(width, width, device=DEVICE).to(dtype) for width in WIDTHS}
    runs = alternate({str(width): partial(multiply, factor) for width, factor in factors.items()}, repeats)
    return max(2 * int(width) ** 3 * CALLS / run.wall for width, run in runs.items())
