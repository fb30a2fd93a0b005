"""What every use of the Hugging Face Trainer shares: arguments, a stop at NaN, the checkpoint to go on from."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainingArguments

from common.errors import UserError


class StopOnNaN(TrainerCallback):
    """Ends the run at the first logged loss that is no number, rather than training on and saving nonsense."""

    def __init__(self, key: str):
        """key: name of the learning rate in the user's configuration."""
        self.key = key

    def on_log(self, args, state, control, logs=None, **_: Any) -> None:
        """Raises UserError with the step."""
        values = [logs[name] for name in ("loss", "grad_norm", "eval_loss") if name in logs]
        if not np.isfinite(values).all():
            raise UserError(f"loss or gradient is no number at step {state.global_step}: lower {self.key}")


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
        disable_tqdm=not sys.stderr.isatty(),
        logging_nan_inf_filter=False,
        **options,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one process is one device: no silent DataParallel
    return arguments


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint in `folder`; those in whose writing a run was killed are removed.

    They lack the trainer's state, which is written last.
    """
    complete = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / "trainer_state.json").exists():
            complete.append(checkpoint)
        else:
            shutil.rmtree(checkpoint, ignore_errors=True)  # another process may be at it too
    newest = max(complete, key=lambda checkpoint: int(checkpoint.name.split("-")[1]), default=None)
    return None if newest is None else str(newest)
