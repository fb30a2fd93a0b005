"""What every use of the Hugging Face Trainer shares."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from data_common.calls.progress import Progress
from data_common.messages.errors import UserError


def trainer_arguments(
    folder: Path, name: str, device: torch.device, precision: torch.dtype, project: str, **options: Any
) -> TrainingArguments:
    """Arguments of a Trainer that takes samples in their order; weights stay float32 under bfloat16 autocast.

    folder: of the checkpoints. name, project: of the run in a tracker.
    """
    os.environ.setdefault("WANDB_PROJECT", project)
    arguments = TrainingArguments(
        output_dir=str(folder),
        run_name=name,
        project=project,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        use_cpu=device.type == "cpu",
        bf16=precision == torch.bfloat16,
        disable_tqdm=True,  # progress is shown by callbacks of our own
        logging_nan_inf_filter=False,
        **options,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one process is one device: no silent DataParallel
    return arguments


def check_account(trackers: str | list[str]) -> None:
    """Raises UserError where Weights & Biases has no key, which it would say when the model is loaded."""
    online = os.environ.get("WANDB_MODE", "online") == "online"
    if not online or "wandb" not in ([trackers] if isinstance(trackers, str) else trackers):
        return
    import wandb  # installed where it is asked for

    try:
        wandb.login()
    except wandb.errors.UsageError as error:
        raise UserError(f"report_to=wandb: {error} (WANDB_API_KEY, or WANDB_MODE=offline)") from None


class TrainingBar(TrainerCallback):
    """Shows how many steps of a training are done."""

    def __init__(self, name: str):
        self.name = name

    def on_train_begin(self, args, state, control, **_: Any) -> None:
        self.bar = Progress(desc=self.name, total=state.max_steps, initial=state.global_step, unit="step")

    def on_step_end(self, args, state, control, **_: Any) -> None:
        self.bar.update()

    def on_train_end(self, args, state, control, **_: Any) -> None:
        self.bar.close()


class EvaluationBar(TrainerCallback):
    """Shows how far a pass over held-out samples is."""

    def __init__(self, name: str):
        self.name, self.bar = name, None

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **_: Any) -> None:
        if self.bar is None:
            self.bar = Progress(desc=self.name, total=len(eval_dataloader), unit="step", leave=False)
        self.bar.update()

    def on_evaluate(self, args, state, control, **_: Any) -> None:
        self.bar = self.bar.close()

    def on_predict(self, args, state, control, metrics=None, **_: Any) -> None:
        self.bar = self.bar.close()
