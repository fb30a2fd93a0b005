"""Going on from the checkpoint of another training: what both must have in common, and the state of its optimizer."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from data_common.files.atomic import read_json
from data_common.messages.errors import UserError
from data_common.messages.visible import brief, visible
from data_common.models.special_tokens import Special
from data_common.models.tokens import special_tokens
from data_common.parallel import distributed
from model_train.architectures import load_for_training, load_tokenizer
from model_train.resuming import OPTIMIZER, RECORD
from model_train.special_ids import NAMES
from model_train.training import BaseTraining

DECAYS = ("adam_beta1", "adam_beta2")  # the moments are made with them, and the correction of their beginning
NO_ARCHITECTURE = {"architectures", "dtype", "transformers_version", "use_cache", "_name_or_path", *NAMES}


class Moments(TrainerCallback):
    """Gives the optimizer of a new run the moments of AdamW, and their steps, that a checkpoint has.

    Learning rate, weight decay and epsilon stay those of the new run.
    """

    def __init__(self, checkpoint: Path):
        self.checkpoint = checkpoint

    def on_train_begin(self, args, state, control, optimizer=None, **_: Any) -> None:
        """Raises UserError where the checkpoint has other moments than those of these weights."""
        own = optimizer.state_dict()
        saved = torch.load(self.checkpoint / OPTIMIZER, map_location="cpu", weights_only=True)
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        sizes = [len(group["params"]) for group in own["param_groups"]]
        fits = saved["state"] and sizes == [len(group["params"]) for group in saved["param_groups"]]
        if not fits or not all(_fit(weights[number], of_one) for number, of_one in saved["state"].items()):
            raise UserError(f"continue_from: {self.checkpoint / OPTIMIZER} has no moments of AdamW for these weights")
        optimizer.load_state_dict(own | {"state": saved["state"]})
        if distributed.is_main():
            print(f"optimizer: its state from {visible(self.checkpoint)} (continue_from)")


def _fit(weight: torch.Tensor, state: Mapping[str, Any]) -> bool:
    """Whether the state is of AdamW and of a weight like this one."""
    moments = [state.get("exp_avg"), state.get("exp_avg_sq")]
    return all(moment is not None and moment.shape == weight.shape for moment in moments)


def check_alike(
    training: BaseTraining, checkpoint: Path, model: str, tokenizer, precision: torch.dtype, special: Special
) -> None:
    """Raises UserError where the checkpoint has another architecture or tokenizer, or decays of AdamW, than the call.

    model, tokenizer: of the call.
    """
    before = read_json(checkpoint / RECORD)["config"]
    for name in DECAYS:
        if name in before and before[name] != getattr(training, name):
            raise UserError(
                f"{checkpoint} is of another optimizer: {name} was {before[name]}, is {getattr(training, name)}"
            )
    known = load_tokenizer(str(checkpoint), None, training.trust_remote_code, special)
    if _reading(known) != _reading(tokenizer):
        raise UserError(f"{checkpoint} has another tokenizer than {training.tokenizer or model}: give its own")
    shape = (training.max_length, True, training.attention, precision, training.seed, training.trust_remote_code)
    own, other = (
        dict(_flat(json.loads(load_for_training(path, tokenizer, *shape, weights=False).config.to_json_string(False))))
        for path in (str(checkpoint), model)
    )
    if changes := [name for name in own | other if own.get(name) != other.get(name)]:
        told = f"{changes[0]} is {own.get(changes[0])} there and {other.get(changes[0])} in {model}"
        raise UserError(f"{checkpoint} is of another architecture: {brief(told)}")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a configuration that decide what the model computes, by their names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif name not in NO_ARCHITECTURE:
            yield prefix + name, value


def _reading(tokenizer) -> list[Any]:
    """What decides the ids of a text. A chat template may be another one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = json.loads(backend.to_str()) if backend is not None else {}
    rules = [parts.get(name) for name in ("normalizer", "pre_tokenizer", "model")]
    return [tokenizer.get_vocab(), special_tokens(tokenizer), *rules]
