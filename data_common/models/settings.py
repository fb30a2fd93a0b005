"""What is set on a model so that it computes everywhere, and reads every row by itself."""

import functools
from collections.abc import Callable
from typing import TypeVar

import torch

Loaded = TypeVar("Loaded")
NO_SDPA = "does not support an attention implementation through torch.nn.functional.scaled_dot_product_attention"


def with_attention(load: Callable[[str], Loaded], attention: str) -> Loaded:
    """`load` with this attention; `sdpa` where the architecture has none is eager, which is told once.

    Raises: what `load` does for any other reason.
    """
    try:
        return load(attention)
    except ValueError as error:
        if attention != "sdpa" or NO_SDPA not in str(error):
            raise
        name = str(error).split(NO_SDPA)[0].strip()
        tell_once(f"note: {name} has no attention of kind sdpa: attention=eager is taken")
        return load("eager")


def attention_identity(attention: str) -> dict[str, str]:
    """What the key adds to the identity of a step: nothing where it is sdpa, so that earlier work stays valid."""
    return {} if attention == "sdpa" else {"attention": attention}


tell_once = functools.cache(print)


def settle(model: torch.nn.Module) -> None:
    """Set what a model computes with, where the default of its configuration does not do for every row."""
    if model.dtype == torch.float64:  # torch's product of groups of rows does not know that type
        model.set_experts_implementation("eager")  # without effect on a model that has no experts
    if getattr(model.config, "rescale_every", 0):  # RWKV: divides weights in place, where float16 would overflow
        model.config.rescale_every = 0
    model.config.return_dict = True
    for module in model.modules():
        if getattr(module, "chunk_size_feed_forward", 0):
            module.chunk_size_feed_forward = 0  # saves memory for lengths that are multiples of it, else raises
