"""How a causal LM reads its input, tried out on the model itself rather than looked up by its name."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from data_common.messages.errors import UserError
from data_common.models.settings import tell_once
from data_common.models.tokens import embedding_count

ARBITRARY = 1000  # tokens that are drawn from, at most
SHORT, LONG = 8, 64  # tokens of the rows that are tried, where it is not said how long rows may be
# Relative, of 16 layers measured up to 3e-6 (float32) and 2e-2 (bfloat16); what is told apart differs by more than 5e-3
# in new models and 1e-1 in trained ones. Many models of float64 compute norms and softmax in float32.
ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class Traits:
    """What `traits` found."""

    positions: bool  # whether position_ids from 0 are what the model numbers tokens by itself
    mixed_lengths: bool  # whether a row is read alike alone and beside a longer one


_found: WeakKeyDictionary[torch.nn.Module, Traits] = WeakKeyDictionary()


def traits(model: torch.nn.Module, max_length: int | None = None) -> Traits:
    """Of a model in evaluation mode, tried once.

    max_length: tokens of the longest row; some scalings of rotary positions depend on it.
    Raises: UserError where a prediction depends on later tokens, so that there is no log-likelihood, or on rows that
    were read before, or is no number.
    """
    if model not in _found:
        _found[model] = _try(model, max_length or LONG)
        if not _found[model].mixed_lengths:
            tell_once(
                f"note: {_name(model)} reads a row otherwise beside a longer one: batches hold rows of one length"
            )
    return _found[model]


@torch.no_grad()
def _try(model: torch.nn.Module, max_length: int) -> Traits:
    long = max(2, min(max_length, positions_of(model) or max_length))
    ids = arbitrary_tokens(model, long)
    row, middle = (ids[:, :length] for length in (min(SHORT, max(1, long // 2)), max(1, long * 7 // 8)))
    _check_causal(model, ids[:, : max(2, row.shape[1])])
    alone, whole = _states(model, row), _states(model, ids)  # what follows a row is as padding to a causal model
    after = _states(model, middle)
    mixed = all(same_states(one, whole[:, : one.shape[1]]) for one in (alone, after))
    again = _states(model, row)
    # What is kept of a longer row (by some scalings of rotary positions) is gone, or not, behind a short one.
    if not same_states(alone, again) or not (mixed or same_states(after, _states(model, middle))):
        raise UserError(f"the model ({_name(model)}) reads a row otherwise after another one")
    numbered = _numbered(model, row)
    return Traits(numbered is not None and same_states(alone, numbered), mixed)


def _check_causal(model: torch.nn.Module, ids: torch.Tensor) -> None:
    half = ids.shape[1] // 2
    other = ids.clone()
    other[:, half:] = (ids[:, half:] + 1) % min(embedding_count(model), ARBITRARY)
    one, two = _states(model, ids), _states(model, other)
    if one.isnan().any() and one.dtype.itemsize > 2:  # else it may do in the precision that it will be read in
        raise UserError(f"what the model ({_name(model)}) computes is no number (in {one.dtype}): broken weights?")
    if not same_states(one[:, :half], two[:, :half]):
        raise UserError(
            f"the model ({_name(model)}) sees later tokens, so that its predictions are no likelihood: a "
            "causal language model is needed (an encoder that was trained as one says is_decoder: true in config.json)"
        )


def _numbered(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor | None:
    """The states where positions are given; None where the model does not take them."""
    try:
        return _states(model, ids, position_ids=torch.arange(ids.shape[1], device=ids.device)[None])
    except (TypeError, ValueError, IndexError, RuntimeError):
        return None


def _states(model: torch.nn.Module, ids: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """The last hidden states, or the logits where a model does not tell those; (rows, tokens, ...)."""
    for network in (getattr(model, "base_model", model), model):
        if (found := states_of(network(input_ids=ids, use_cache=False, **inputs))) is not None:
            return found
    raise UserError(f"the model ({_name(model)}) gives neither logits nor last_hidden_state")


def states_of(output: Any) -> torch.Tensor | None:
    """Logits, or the last hidden states of a model without a head, (rows, tokens, ...); None where there are neither.

    output: of a forward pass; Python code that comes with a model may give a tensor, or a tuple that begins with it.
    """
    if isinstance(output, tuple):
        output = output[0]
    if isinstance(output, torch.Tensor):
        return output
    logits = getattr(output, "logits", None)
    return getattr(output, "last_hidden_state", None) if logits is None else logits


def arbitrary_tokens(model: torch.nn.Module, length: int, rows: int = 1) -> torch.Tensor:
    """(rows, length), the same at every call."""
    known = min(embedding_count(model), ARBITRARY)
    ids = torch.randint(known, (rows, length), generator=torch.Generator().manual_seed(0))
    return ids.to(next(model.parameters()).device)


def _name(model: torch.nn.Module) -> str:
    return type(model).__name__


def trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The parameters that training changes: some models have others that are fixed."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def special_ids(model: torch.nn.Module) -> list[int]:
    """The tokens that the model's configuration or its embeddings name (padding, BOS, EOS, ...), which it may read in
    a way of its own."""
    named = [value for name, value in vars(model.config).items() if name.endswith(("token_id", "token_ids"))]
    named += [getattr(module, "padding_idx", None) for module in model.modules()]
    flat = [one for value in named for one in (value if isinstance(value, list | tuple) else [value])]
    return sorted({one for one in flat if isinstance(one, int) and 0 <= one < embedding_count(model)})


def check(model: torch.nn.Module, max_length: int, key: str = "max_length") -> Traits:
    """`check_positions` and `traits` of a causal LM that will read rows of up to max_length tokens, as `key` says."""
    check_positions(model, max_length, key)
    return traits(model, max_length)


def check_positions(model: torch.nn.Module, max_length: int, key: str = "max_length") -> None:
    """Raises UserError where the model has fewer positions than a sequence may have tokens, which `key` sets."""
    positions = positions_of(model)
    if positions is not None and positions < max_length:
        raise UserError(f"{key}={max_length} is more than the {positions} positions of the model")


def positions_of(model: torch.nn.Module) -> int | None:
    """For how many tokens the model has positions; None where nothing says that they end."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:  # XLNet says -1
        return None
    for name, module in model.named_modules():  # RoBERTa and its kin never use the positions up to that of padding
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions = module.num_embeddings - module.padding_idx - 1
    return positions


def same_states(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Whether hidden states are the same but for rounding; logits of tokens that are excluded may be infinite."""
    finite = one.isfinite() & two.isfinite()
    rounding, exact = ROUNDING[one.dtype], torch.promote_types(one.dtype, torch.float32)
    one, two = one[finite].to(exact), two[finite].to(exact)
    return bool((one - two).norm() <= rounding * one.norm())
