"""The running mean of a model's weights: one copy of them beside the model, which goes into the checkpoints."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from data_common.parallel import distributed


class RunningAverage(TrainerCallback):
    """Adds the weights of some steps to a mean in float32, or in float64 where they are.

    Of a model that is sharded each process averages its own part. Weights that several layers share count once;
    buffers and frozen weights are those of the last step.
    """

    def __init__(
        self,
        steps: Sequence[int],
        newest: Callable[[int], float],
        checkpoint: Path | None = None,
        sharded: bool = False,
    ):
        """steps: whose weights are averaged. newest: number (from 1) -> weight of that one when it is added.

        checkpoint: to go on from. sharded: whether every process has a part of the weights.
        """
        self.steps, self.newest, self.checkpoint = list(steps), newest, checkpoint
        self.file = f"average-{distributed.rank() if sharded else 0}.safetensors"
        self.writes = sharded or distributed.is_main()
        self.mean: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args, state, control, model=None, **_: Any) -> None:
        """Take up the mean of the checkpoint, where some of the steps are done."""
        if self.checkpoint is not None and any(step <= state.global_step for step in self.steps):
            saved = load_file(self.checkpoint / self.file)
            self.mean = {name: saved[name].to(part.device) for name, part in local_parts(model).items()}

    def on_step_end(self, args, state, control, model=None, **_: Any) -> None:
        if state.global_step in self.steps:
            self.add(model, self.steps.index(state.global_step) + 1)

    def on_save(self, args, state, control, **_: Any) -> None:
        """Beside the Trainer's files, before the checkpoint gets its place."""
        if self.mean and self.writes:
            save_file(self.mean, Path(args.output_dir) / f"checkpoint-{state.global_step}" / self.file)

    @torch.no_grad()
    def add(self, model: torch.nn.Module, number: int) -> None:
        """The weights of `model` are the `number`-th (from 1) of those that are averaged."""
        for name, part in local_parts(model).items():
            exact = part.to(torch.promote_types(part.dtype, torch.float32))
            if number == 1:
                self.mean[name] = exact.clone()
            else:
                self.mean[name].lerp_(exact, self.newest(number))

    @torch.no_grad()
    def put_into(self, model: torch.nn.Module) -> None:
        """The weights of `model` become their mean, in the type that they have."""
        for name, part in local_parts(model).items():
            part.copy_(self.mean[name])


def local_parts(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Name -> what this process holds of each trained weight; no copies, shared ones once."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # an evaluation leaves it with whole weights
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    return {name: weight.to_local() if isinstance(weight, DTensor) else weight.data for name, weight in weights.items()}
