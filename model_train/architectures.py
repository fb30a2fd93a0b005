"""The model that training starts from: a folder, a hub id, or an architecture file (config/models/*.yaml).

An architecture file holds `model_type` and other values of a transformers configuration, and the learning rate that
goes with the size. Vocabulary and special tokens come from the tokenizer unless the file sets them.
"""

import contextlib
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig

from data_common.calls.config import did_you_mean, load_yaml
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.models import loading
from data_common.models.special_tokens import Special
from data_common.models.traits import check_positions
from model_train.special_ids import NAMES, learn_padding


def is_architecture(model: str) -> bool:
    """Whether MODEL_IN is an architecture file."""
    return model.endswith((".yaml", ".yml"))


def learning_rate_of(model: str) -> float:
    """The learning rate that an architecture file names. Raises: UserError where MODEL_IN is none, or it names none."""
    rate = load_yaml(Path(model)).get("learning_rate") if is_architecture(model) else None
    if rate is None:
        raise UserError(f"learning_rate is null, and {model} is no architecture file that has one")
    return float(rate)


def load_tokenizer(model: str, tokenizer: str | None, trust_remote_code: bool = False, special: Special = "text"):
    """The tokenizer of `tokenizer`, else of `model`. Raises: UserError where there is none."""
    if is_architecture(model) and not Path(model).exists():
        raise UserError(f"no architecture file {model}")
    if tokenizer is None and is_architecture(model):
        raise UserError(f"{model} is an architecture file: tokenizer=FOLDER or hub id is needed with it")
    return loading.load_tokenizer(tokenizer or model, trust_remote_code, special)


def load_for_training(
    model: str,
    tokenizer,
    max_length: int,
    from_scratch: Literal["auto"] | bool,
    attention: str,
    precision: torch.dtype,
    seed: int,
    trust_remote_code: bool = False,
    weights: bool = True,
) -> torch.nn.Module:
    """The model with its own or with random weights; prints which. Weights stay float32 under bfloat16 autocast.

    trust_remote_code: run Python code that comes with it. weights: as in `loading.load_model`.
    Raises: UserError where it does not load, or its positions are fewer than `max_length`.
    """
    has_weights = not is_architecture(model) and loading.has_weights(model)
    fresh = not has_weights if from_scratch == "auto" else from_scratch
    reason = f"{model} has {'' if has_weights else 'no '}weights" if from_scratch == "auto" else "asked for"
    if weights:
        print(f"weights: {f'random, seed {seed}' if fresh else f'from {visible(model)}'} ({reason})")
    options = {"dtype": max(precision, torch.float32, key=lambda d: d.itemsize), "attn_implementation": attention}
    if not fresh and is_architecture(model):
        raise UserError(f"{model} is an architecture file without weights: from_scratch=false needs a trained model")
    with contextlib.nullcontext() if weights else torch.device("meta"):
        if is_architecture(model):
            network = build(Path(model), tokenizer, seed, options)
        elif fresh:
            network = loading.new_model(model, tokenizer, seed, trust_remote_code, **options)
        else:
            network = loading.load_model(model, tokenizer, weights, trust_remote_code=trust_remote_code, **options)
    check_positions(network, max_length)
    if weights:
        learn_padding(network, tokenizer, seed if fresh else None)
    return network


def build(path: Path, tokenizer, seed: int, options: dict[str, Any]) -> torch.nn.Module:
    """A model with random weights as an architecture file describes it. options: of `from_config`.

    Raises: UserError for an unknown value, or fewer embeddings than the tokenizer has tokens.
    """
    config = configuration(path, tokenizer)
    try:
        model = loading.random_model(config, seed, trust_remote_code=False, **options)
    except (ImportError, ValueError) as error:  # of the attention, or values that do not go together
        raise UserError(f"cannot build {path}: {str(error).split(chr(10))[0]}") from error
    loading.check_vocabulary(model, tokenizer, str(path))
    return model


def configuration(path: Path, tokenizer):
    """The transformers configuration of an architecture file. Raises: UserError for what it cannot hold."""
    values = {key: value for key, value in load_yaml(path).items() if key != "learning_rate"}
    try:
        model_type = values.pop("model_type")
        known = AutoConfig.for_model(model_type).to_dict()
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: model_type is missing or unknown: {str(error).split(chr(10))[0]}") from None
    for key in values:
        if key not in known:
            raise UserError(f"{path}: unknown key '{key}'{did_you_mean(key, known)}")
    if "num_key_value_heads" in known and "num_attention_heads" in values:  # not the heads of some other size
        values.setdefault("num_key_value_heads", values["num_attention_heads"])
    special = {name: getattr(tokenizer, name) for name in NAMES}
    return AutoConfig.for_model(model_type, **({"vocab_size": len(tokenizer)} | special | values))
