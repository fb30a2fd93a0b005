"""Low-rank adapters (LoRA, arXiv 2106.09685) by the package peft: trained in place of the weights, merged at the end.

W + alpha / rank B A takes the place of the weight W of a linear layer: W is frozen, A (rank x inputs, random) and B
(outputs x rank, zero at the beginning) are trained. At the end the sum is the weight of an ordinary model.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch

from data_common.calls.config import Positive
from data_common.messages.errors import UserError
from data_common.parallel import distributed

ADAPTER = "adapter"  # folder in the model's own for A and B


@dataclass(frozen=True, kw_only=True)
class Lora:
    """The keys.

    Args:
        lora_rank: train low-rank adapters of this rank (LoRA) in place of the weights; null = the weights. MODEL_OUT
            has the merged weights, MODEL_OUT/adapter the adapters; needs the package peft
        lora_alpha: adapters count alpha / rank times; null = twice the rank
        lora_targets: names of the layers that get an adapter, such as [q_proj, v_proj]; null = all linear ones but the
            output layer
    """

    lora_rank: Positive | None = None
    lora_alpha: Positive | None = None
    lora_targets: list[str] | None = None

    def __post_init__(self):
        """Raises: UserError for keys without a rank, and where peft is missing."""
        for name in ("lora_alpha", "lora_targets"):
            if self.lora_rank is None and getattr(self, name) is not None:
                raise UserError(f"{name} goes with lora_rank, which is null")
        if self.lora_rank is not None and importlib.util.find_spec("peft") is None:
            raise UserError(f"lora_rank={self.lora_rank}: peft is not installed (pip install peft)")

    def adapted(self, model: torch.nn.Module, seed: int) -> torch.nn.Module:
        """The model with adapters, its weights frozen; the model as it is without a rank.

        seed: of A. Raises: UserError where no layer has one of the names.
        """
        if self.lora_rank is None:
            return model
        import peft

        settings = peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=self.lora_rank,
            lora_alpha=self.lora_alpha or 2 * self.lora_rank,
            target_modules=self.lora_targets or "all-linear",
        )
        torch.manual_seed(seed)
        try:
            adapted = peft.get_peft_model(model, settings)
        except ValueError as error:
            layers = {
                name.rpartition(".")[2] for name, one in model.named_modules() if isinstance(one, torch.nn.Linear)
            }
            cure = f"linear layers of the model: {', '.join(sorted(layers))}"
            raise UserError(f"lora_targets={self.lora_targets}: {str(error).split('.')[0]} ({cure})") from None
        adapted.enable_input_require_grads()  # or nothing is learned with gradient_checkpointing
        return adapted

    def merged(self, model: torch.nn.Module, folder: Path) -> torch.nn.Module:
        """An ordinary model with the sums as weights; the adapters are left in the folder. Without a rank the model."""
        if self.lora_rank is None:
            return model
        if distributed.is_main():
            model.save_pretrained(folder / ADAPTER)
        return model.merge_and_unload()
