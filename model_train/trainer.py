"""The Hugging Face Trainer, set up so that the file's order is the training order and only real tokens are learned."""

import functools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import EvalPrediction, PrinterCallback, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from data_common.calls.config import did_you_mean, load_yaml
from data_common.messages.errors import UserError
from data_common.models.tokens import IGNORED
from data_common.models.trainer_settings import EvaluationBar, check_account, trainer_arguments
from data_common.parallel import distributed
from model_train.averaging import RunningAverage
from model_train.batches import Batches
from model_train.checkpoints import PICKLED, WRITING, AtomicCheckpoints, check_space, forget_unfinished
from model_train.continuing import Moments
from model_train.output_layer import chunk_the_loss, weigh_the_loss
from model_train.sequences import Sequences, collate
from model_train.train_log import AVERAGE, HELDOUT_AVERAGE, Watch
from model_train.training import BaseTraining
from model_train.watched_trainer import WatchedTrainer

FLASH = "flash_attention_2"
LONG_WARMUP = 0.1  # of a run
LAST = "last"  # folder in the work folder for the last weights, where the model gets the averaged ones


class RunFolder(NamedTuple):
    """Where a run works, and what it is."""

    folder: Path  # for checkpoints, log and, at last, the model
    name: str  # in a tracker
    identity: Mapping[str, Any]  # kept in its checkpoints
    checkpoint: Path | None  # to resume from
    start: Path | None = None  # of another run: a checkpoint whose optimizer this one begins with


def fit(
    training: BaseTraining,
    model: torch.nn.Module,
    tokenizer,
    sequences: Sequences,
    heldout: Sequences | None,
    watch: Watch,
    place: RunFolder,
    device: torch.device,
    precision: torch.dtype,
    learning_rate: float,
) -> dict[str, Any]:
    """Train on `sequences` once through, in order; save model, tokenizer and log in the folder. -> facts.

    Raises: UserError for a loss that is no number, a full disk, an attention that does not work here,
    an output layer that chunked_loss cannot take, a loss that cannot be weighted.
    """
    use_cache = getattr(model.config, "use_cache", None)
    flat = training.attention == FLASH and "position_ids" in sequences[0]
    if "position_ids" in sequences[0]:
        check_apart(model.to(device), precision)
    if watch.batches.weights is not None:
        weigh_the_loss(model.to(device), precision)
    if training.chunked_loss:
        chunk_the_loss(model.to(device), precision)
    if distributed.is_main():
        forget_unfinished(place.folder, place.checkpoint)
        check_space(place.folder, model, training.averaging.average != "none")
    width = watch.batches.width
    arguments = _arguments(training, place, device, precision, learning_rate, width, flat, heldout is not None)
    total = watch.batches.steps
    highest = highest_rate(arguments, total)
    training.schedule.decay(total, arguments.get_warmup_steps(total))  # what does not fit is better known now
    watch.averaged = training.averaging.steps(total)
    average = RunningAverage(watch.averaged, training.averaging.newest, place.checkpoint, training.fsdp is not None)
    trainer = WatchedTrainer(
        model,
        arguments,
        data_collator=functools.partial(collate, flat=flat),
        train_dataset=watch.batches,
        eval_dataset=None if heldout is None else Batches(heldout, 1),
        preprocess_logits_for_metrics=token_losses,
        compute_metrics=mean_loss,
        callbacks=[
            watch,
            EvaluationBar("held-out loss"),
            average,
            *([Moments(place.start)] if place.start and not place.checkpoint else []),
            AtomicCheckpoints(place.folder, place.identity, training.save_total_limit, tokenizer),
        ],
    )
    trainer.watch, trainer.use_cache, trainer.schedule = watch, use_cache, training.schedule
    trainer.remove_callback(PrinterCallback)
    if not trainer.model_accepts_loss_kwargs:
        raise UserError(f"{type(model).__name__} cannot take its loss over all tokens of an optimizer step")
    try:
        trainer.train(resume_from_checkpoint=None if place.checkpoint is None else str(place.checkpoint))
        if watch.averaged:
            _average(trainer, average, tokenizer, place.folder / LAST)
        trainer.model = training.merged(trainer.model, place.folder)
        if distributed.is_main():
            watch.draw(trainer.state.log_history)
        _save(trainer, tokenizer, place.folder)
    except (OSError, RuntimeError, SafetensorError):
        check_space(place.folder, model, training.averaging.average != "none")  # most likely the disk is full
        raise
    if distributed.is_main() and (place.folder / WRITING).exists():
        shutil.rmtree(place.folder / WRITING)  # or the model would be published with it
    return _facts(model, trainer, sequences) | {"learning_rate": learning_rate, "highest_learning_rate": highest}


def _average(trainer: WatchedTrainer, average: RunningAverage, tokenizer, last: Path) -> None:
    """Save the last weights in the folder `last`; the model has the averaged ones then, and their held-out loss."""
    _save(trainer, tokenizer, last)
    average.put_into(trainer.model)
    if trainer.eval_dataset is not None:
        trainer.evaluate(metric_key_prefix=AVERAGE)


def _save(trainer: WatchedTrainer, tokenizer, folder: Path) -> None:
    """The model as it is now, and its tokenizer."""
    trainer.save_model(str(folder))
    if distributed.is_main():
        tokenizer.save_pretrained(folder)
        (folder / PICKLED).unlink(missing_ok=True)


def _arguments(
    training: BaseTraining,
    place: RunFolder,
    device: torch.device,
    precision: torch.dtype,
    learning_rate: float,
    width: int,
    flat: bool,
    evaluates: bool,
) -> TrainingArguments:
    """The keys in the words of TrainingArguments. width: places of a micro-batch.

    Raises: UserError for fsdp on one process or without GPUs.
    """
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(place.folder / "tensorboard"))
    names = ("gradient_accumulation_steps", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm")
    same = {name: getattr(training, name) for name in (*names, "save_steps", "logging_steps", "report_to", "seed")}
    schedule = training.schedule.arguments(learning_rate)
    if evaluates:
        schedule |= {"eval_strategy": "steps", "eval_steps": training.heldout_steps}
    if training.fsdp:
        if distributed.size() == 1 or device.type != "cuda":  # accelerate would silently do without
            raise UserError(f"fsdp={training.fsdp} needs several GPUs (NPROC)")
        schedule |= {"fsdp": True, "fsdp_config": load_yaml(Path(training.fsdp))}
    if training.deepspeed:
        schedule |= {"deepspeed": load_yaml(Path(training.deepspeed))}
    warmup = training.warmup
    return trainer_arguments(
        place.folder / WRITING,
        place.name,
        device,
        precision,
        training.project,
        num_train_epochs=1,  # the sequences hold all passes
        per_device_train_batch_size=width,
        per_device_eval_batch_size=1 if flat else training.batch_size,
        learning_rate=learning_rate,
        warmup_steps=warmup if warmup < 1 else int(warmup),
        activation_checkpointing=training.gradient_checkpointing,
        torch_compile=training.compile,
        ddp_find_unused_parameters=False,
        **same,
        **schedule,
    )


def highest_rate(arguments: TrainingArguments, steps: int) -> float:
    """The highest learning rate of a run of so many steps; a note where its warm-up is longer than a tenth of it."""
    asked, warmup = arguments.warmup_steps, arguments.get_warmup_steps(steps)
    highest = arguments.learning_rate * (min(1.0, (steps - 1) / warmup) if warmup else 1.0)  # it begins at rate 0
    if (asked if asked < 1 else warmup / steps) > LONG_WARMUP and distributed.is_main():
        print(
            f"note: the warm-up of {warmup:,} steps is longer than a tenth of the run of {steps:,}: the learning rate "
            f"gets up to {highest:.2g} (warmup_steps=0.03 is a share of the run)"
        )
    return highest


def _facts(model: torch.nn.Module, trainer: WatchedTrainer, sequences: Sequences) -> dict[str, Any]:
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    before = [0, *(entry["step"] for entry in entries)]
    total = sum(entry["loss"] * (entry["step"] - step) for entry, step in zip(entries, before, strict=False))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "optimizer_steps": trainer.state.global_step,
        "trained_tokens": sequences.budget,
        "passes": round(sequences.epochs, 4),
        "cut_documents": sequences.cut,
        "training_loss": total / trainer.state.global_step,
        **_heldout_losses(trainer),
        **({"averaged_steps": trainer.watch.averaged} if trainer.watch.averaged else {}),
    }


def _heldout_losses(trainer: WatchedTrainer) -> dict[str, float]:
    """Of MODEL_OUT, and of the last weights where it has the averaged ones."""
    names = {"eval_heldout_loss": "heldout_loss"}
    if trainer.watch.averaged:
        names = {"eval_heldout_loss": "last_heldout_loss", HELDOUT_AVERAGE: "heldout_loss"}
    return {names[name]: entry[name] for entry in trainer.state.log_history for name in names if name in entry}


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum of the losses of each sequence and their number, (batch, 2): all that a held-out loss needs of the logits."""
    targets = labels[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return torch.stack([losses.view(targets.shape).sum(1), (targets != IGNORED).sum(1)], 1)


def mean_loss(prediction: EvalPrediction) -> dict[str, float]:
    """The mean over all tokens, of whatever sequence they are."""
    losses, counts = prediction.predictions.sum(0, dtype=float)
    return {"heldout_loss": float(losses / counts)}


def check_trackers(report_to: str | list[str]) -> None:
    """Raises UserError for a tracker that transformers does not know or that is not installed."""
    for name in [report_to] if isinstance(report_to, str) else report_to:
        if name not in ("none", "all") and name not in INTEGRATION_TO_CALLBACK:
            raise UserError(f"report_to: unknown tracker '{name}'{did_you_mean(name, INTEGRATION_TO_CALLBACK)}")
        if name in INTEGRATION_TO_CALLBACK and name not in get_available_reporting_integrations():
            raise UserError(f"report_to={name}: it is not installed (pip install {name})")
    check_account(report_to)


@torch.no_grad()
def check_apart(model: torch.nn.Module, precision: torch.dtype) -> None:
    """Raises UserError where a document of a packed block sees another one, whatever the position ids say."""
    size, device = model.config.vocab_size, next(model.parameters()).device
    positions = torch.cat([torch.arange(4), torch.arange(4)])[None].to(device)

    def second(shift: int) -> torch.Tensor:
        ids = torch.cat([(torch.arange(4) + shift) % size, torch.arange(4) % size])[None].to(device)
        return model(input_ids=ids, position_ids=positions, use_cache=False).logits[0, 4:]

    with torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        if not torch.equal(second(0), second(1)):
            raise UserError(f"{type(model).__name__} cannot keep documents apart: cross_document_attention=true")
