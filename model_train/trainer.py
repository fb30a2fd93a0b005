"""The Hugging Face Trainer, set up so that the file's order is the training order and only real tokens are learned."""

import functools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from data_common.calls.config import did_you_mean, load_yaml
from data_common.messages.errors import UserError
from data_common.models.tokens import IGNORED
from data_common.models.trainer_settings import EvaluationBar, check_account, trainer_arguments
from data_common.parallel import distributed
from model_train.checkpoints import PICKLED, WRITING, AtomicCheckpoints, check_space, forget_unfinished
from model_train.output_layer import chunk_the_loss
from model_train.sequences import Sequences, WholeBatches, collate
from model_train.train_log import Watch
from model_train.training import BaseTraining

FLASH = "flash_attention_2"
LONG_WARMUP = 0.1  # of a run


class RunFolder(NamedTuple):
    """Where a run works, and what it is."""

    folder: Path  # for checkpoints, log and, at last, the model
    name: str  # in a tracker
    identity: Mapping[str, Any]  # kept in its checkpoints
    checkpoint: Path | None  # to resume from


class WatchedTrainer(Trainer):
    """The Trainer, with the tokens, scores and losses of its steps in the log; by its documented hooks."""

    watch: Watch
    use_cache: bool | None  # of the model; the Trainer switches it off

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the model shall be used, not as it is trained."""
        trained, self.model.config.use_cache = self.model.config.use_cache, self.use_cache
        try:
            super().save_model(output_dir, _internal_call)
        finally:
            self.model.config.use_cache = trained

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """Keeps the loss, on its device, until the next entry of the log."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.watch.losses[-1].append(loss)
        return loss

    def _issue_warnings_after_load(self, load_result) -> None:
        """Says nothing of weights that are another's, as those of an output layer which is the embedding."""
        missing = [name for name in load_result.missing_keys if name not in self.model.all_tied_weights_keys]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Raises: UserError where loss or gradient is no number."""
        if "loss" in logs:
            self.watch.check_finite(logs, self.state.global_step)
            logs = logs | self.watch.numbers()
        super().log(logs, start_time)


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
    an output layer that chunked_loss cannot take.
    """
    use_cache = getattr(model.config, "use_cache", None)
    flat = training.attention == FLASH and "position_ids" in sequences[0]
    if "position_ids" in sequences[0]:
        check_apart(model.to(device), precision)
    if training.chunked_loss:
        chunk_the_loss(model.to(device), precision)
    if distributed.is_main():
        forget_unfinished(place.folder, place.checkpoint)
        check_space(place.folder, model)
    arguments = _arguments(training, place, device, precision, learning_rate, flat, heldout is not None)
    trainer = WatchedTrainer(
        model,
        arguments,
        data_collator=functools.partial(collate, flat=flat),
        train_dataset=WholeBatches(sequences, watch.batch),
        eval_dataset=None if heldout is None else WholeBatches(heldout, 1),
        preprocess_logits_for_metrics=token_losses,
        compute_metrics=mean_loss,
        callbacks=[
            watch,
            EvaluationBar("held-out loss"),
            AtomicCheckpoints(place.folder, place.identity, training.save_total_limit, tokenizer),
        ],
    )
    trainer.watch, trainer.use_cache = watch, use_cache
    trainer.remove_callback(PrinterCallback)
    highest = highest_rate(arguments, -(-len(sequences) // watch.batch))
    if not trainer.model_accepts_loss_kwargs:
        raise UserError(f"{type(model).__name__} cannot take its loss over all tokens of an optimizer step")
    try:
        trainer.train(resume_from_checkpoint=None if place.checkpoint is None else str(place.checkpoint))
        trainer.save_model(str(place.folder))
    except (OSError, RuntimeError, SafetensorError):
        check_space(place.folder, model)  # most likely the disk is full
        raise
    if distributed.is_main():
        tokenizer.save_pretrained(place.folder)
        (place.folder / PICKLED).unlink(missing_ok=True)
        if (place.folder / WRITING).exists():
            shutil.rmtree(place.folder / WRITING)  # or the model would be published with it
    return _facts(model, trainer, sequences) | {"learning_rate": learning_rate, "highest_learning_rate": highest}


def _arguments(
    training: BaseTraining,
    place: RunFolder,
    device: torch.device,
    precision: torch.dtype,
    learning_rate: float,
    flat: bool,
    evaluates: bool,
) -> TrainingArguments:
    """The keys in the words of TrainingArguments. Raises: UserError for fsdp on one process or without GPUs."""
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(place.folder / "tensorboard"))
    names = ("gradient_accumulation_steps", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm")
    same = {name: getattr(training, name) for name in (*names, "save_steps", "logging_steps", "report_to", "seed")}
    if training.scheduler == "cosine":
        lowest = training.min_learning_rate
        floor = {"min_lr_rate": 0.1 if lowest is None else lowest / learning_rate}
        schedule = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": floor}
    else:
        names = {"constant": "constant_with_warmup"}
        schedule = {"lr_scheduler_type": names.get(training.scheduler, training.scheduler)}
    if evaluates:
        schedule |= {"eval_strategy": "steps", "eval_steps": training.heldout_steps}
    if training.fsdp:
        if distributed.size() == 1 or device.type != "cuda":  # accelerate would silently do without
            raise UserError(f"fsdp={training.fsdp} needs several GPUs (NPROC)")
        schedule |= {"fsdp": True, "fsdp_config": load_yaml(Path(training.fsdp))}
    if training.deepspeed:
        schedule |= {"deepspeed": load_yaml(Path(training.deepspeed))}
    warmup = training.warmup_steps
    return trainer_arguments(
        place.folder / WRITING,
        place.name,
        device,
        precision,
        training.project,
        num_train_epochs=1,  # the sequences hold all passes
        per_device_train_batch_size=training.batch_size,
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


def _facts(model: torch.nn.Module, trainer: Trainer, sequences: Sequences) -> dict[str, Any]:
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    before = [0, *(entry["step"] for entry in entries)]
    total = sum(entry["loss"] * (entry["step"] - step) for entry, step in zip(entries, before, strict=False))
    heldout = [entry for entry in trainer.state.log_history if "eval_heldout_loss" in entry][-1:]
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "optimizer_steps": trainer.state.global_step,
        "trained_tokens": sequences.budget,
        "passes": round(sequences.epochs, 4),
        "cut_documents": sequences.cut,
        "training_loss": total / trainer.state.global_step,
        **({"heldout_loss": heldout[0]["eval_heldout_loss"]} if heldout else {}),
    }


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
