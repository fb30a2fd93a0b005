"""The Hugging Face Trainer, set up so that the file's order is the training order and only real tokens are learned."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import Trainer

from common import models
from common.errors import UserError
from common.tokens import IGNORED, pad
from common.training import StopOnNaN, last_checkpoint, trainer_arguments


class Sequences(torch.utils.data.Dataset):
    """Token ids as the map-style data set that Trainer wants."""

    def __init__(self, sequences: Sequence[np.ndarray]):
        self.sequences = sequences

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, number: int) -> np.ndarray:
        return self.sequences[number]


def collate(sequences: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """A batch: input ids and labels, both (batch, longest).

    The first position is never predicted; it is masked so that the token count which divides the loss is exact.
    """
    ids, labels = pad(sequences)
    labels[:, 0] = IGNORED
    return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}


def load_for_training(
    model: str,
    tokenizer,
    max_length: int,
    from_scratch: Literal["auto"] | bool,
    attention: str,
    precision: torch.dtype,
    seed: int,
) -> torch.nn.Module:
    """The model with its own or with random weights; prints which. Weights stay float32 under bfloat16 autocast.

    Raises: UserError where it does not load, or its positions are fewer than `max_length`.
    """
    weights = models.has_weights(model)
    fresh = not weights if from_scratch == "auto" else from_scratch
    reason = f"{model} has {'' if weights else 'no '}weights" if from_scratch == "auto" else "asked for"
    print(f"weights: {f'random, seed {seed}' if fresh else f'from {model}'} ({reason})")
    options = {"dtype": max(precision, torch.float32, key=lambda d: d.itemsize), "attn_implementation": attention}
    load = models.new_model if fresh else models.load_model
    network = load(model, tokenizer, **options, **({"seed": seed} if fresh else {}))
    models.check_positions(network, max_length)
    return network


def fit(
    model: torch.nn.Module,
    tokenizer,
    data: Sequence[np.ndarray],
    output: Path,
    device: torch.device,
    precision: torch.dtype,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Train on `data` once through, in order; save model, tokenizer and log in `output`. -> facts.

    options: `project` and others of TrainingArguments. A checkpoint in `output` is gone on from.
    """
    name = output.name.removeprefix(".").removesuffix(".partial")
    arguments = trainer_arguments(output, name, device, precision, num_train_epochs=1, **options)
    checkpoint = last_checkpoint(output)
    stop = StopOnNaN("learning_rate")
    trainer = Trainer(model, arguments, data_collator=collate, train_dataset=Sequences(data), callbacks=[stop])
    result = trainer.train(resume_from_checkpoint=checkpoint)
    if not np.isfinite(result.training_loss):  # in the steps after the last log
        raise UserError(f"the mean training loss is {result.training_loss}: lower learning_rate")
    trainer.save_model(str(output))
    tokenizer.save_pretrained(output)
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    with open(output / "train_log.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in log)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "optimizer_steps": trainer.state.global_step,
        "trained_tokens": data.budget,
        "training_loss": float(result.training_loss),
    }
