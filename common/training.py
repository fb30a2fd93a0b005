"""What every use of the Hugging Face Trainer shares."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments


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
