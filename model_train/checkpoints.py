"""Checkpoints that appear whole, each with the record of the run that it belongs to.

The Trainer writes into a hidden folder; when all processes have, it is renamed to `checkpoint-STEP`.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from data_common.files.contents import record_of
from data_common.files.durable import discard, flush_tree, publish
from data_common.messages.errors import UserError
from data_common.parallel import distributed
from model_train.resuming import RECORD, checkpoints, step_of

WRITING = ".writing"  # folder in the work folder that the Trainer writes to
PICKLED = "training_args.bin"  # the Trainer's arguments: nothing reads them, and a pickle can run code


class AtomicCheckpoints(TrainerCallback):
    """Puts a complete checkpoint in its place, and removes the oldest beyond the limit."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], limit: int | None, tokenizer):
        """folder: where the checkpoints stand. identity: of the run. limit: how many are kept, None = all.

        tokenizer: saved in each, so that it loads as a model does.
        """
        self.folder, self.identity, self.limit, self.tokenizer = folder, identity, limit, tokenizer

    def on_save(self, args, state, control, **_: Any) -> None:
        """Called in every process when its part is written."""
        distributed.wait()
        if distributed.is_main():
            written = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.tokenizer.save_pretrained(written)
            (written / PICKLED).unlink(missing_ok=True)
            flush_tree(written)  # before the stamps are taken
            record = dict(self.identity) | {"files": record_of(written)}
            (written / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
            place = self.folder / written.name
            discard(place)
            publish(written, place)
            for old in checkpoints(self.folder)[: -self.limit] if self.limit else []:
                os.rename(old, written)  # out of sight first: half a checkpoint must not be taken for a whole one
                shutil.rmtree(written)
        distributed.wait()


def forget_unfinished(work: Path, kept: Path | None) -> None:
    """Remove what a killed run was writing, and the checkpoints after the one to resume from."""
    shutil.rmtree(work / WRITING, ignore_errors=True)
    for checkpoint in checkpoints(work):
        if kept is None or step_of(checkpoint) > step_of(kept):
            shutil.rmtree(checkpoint)


def check_space(folder: Path, model: torch.nn.Module, averages: bool) -> None:
    """Raises UserError where the disk has no room for a checkpoint: weights, their average, AdamW's two moments."""
    needed = (4 if averages else 3) * sum(p.numel() * p.element_size() for p in model.parameters())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"no space for a checkpoint in {folder}: {needed / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free"
        )
