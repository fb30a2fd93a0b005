"""What a layer was given in the forward pass of a batch, to be given to it again for a few samples alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class OfSamples:
    """A tensor with something of every sample in it."""

    values: torch.Tensor  # (samples, ...)
    flat: bool = False  # whether the layer takes the first two dimensions, samples and tokens, as one


def record(argument: Any, samples: int, tokens: int) -> Any:
    """An argument, lists and tuples included, with `OfSamples` in place of tensors that are; others are for all."""
    if isinstance(argument, tuple | list):
        return tuple(record(part, samples, tokens) for part in argument)
    if not isinstance(argument, torch.Tensor):
        return argument
    return of_samples(argument.detach(), samples, tokens) or argument.detach()


def of_samples(tensor: torch.Tensor, samples: int, tokens: int) -> OfSamples | None:
    """None for a tensor whose first dimension is neither that of samples nor that of samples times tokens."""
    length = len(tensor) if tensor.dim() else 0
    if length == samples:
        return OfSamples(tensor)
    return OfSamples(tensor.unflatten(0, (samples, tokens)), True) if length == samples * tokens else None


def take(argument: Any, samples: slice) -> Any:
    """What there is of some of the samples."""
    if isinstance(argument, tuple):
        return tuple(take(part, samples) for part in argument)
    if isinstance(argument, Mapping):
        return {name: take(part, samples) for name, part in argument.items()}
    return OfSamples(argument.values[samples], argument.flat) if isinstance(argument, OfSamples) else argument


def again(argument: Any, dtype: torch.dtype) -> Any:
    """As the layer takes it. dtype: of floating-point numbers: that of the layer's weights, which autocast leaves."""
    if isinstance(argument, tuple):
        return tuple(again(part, dtype) for part in argument)
    if isinstance(argument, Mapping):
        return {name: again(part, dtype) for name, part in argument.items()}
    if isinstance(argument, OfSamples):
        argument = argument.values.flatten(0, 1) if argument.flat else argument.values
    floating = isinstance(argument, torch.Tensor) and argument.is_floating_point()
    return argument.to(dtype) if floating else argument


def tensors(argument: Any) -> Iterator[torch.Tensor | OfSamples]:
    """All tensors of an argument that was recorded."""
    if isinstance(argument, tuple):
        for part in argument:
            yield from tensors(part)
    elif isinstance(argument, torch.Tensor | OfSamples):
        yield argument
