"""Causal language-model pretraining that keeps the order of the file.

The recipe is that of DELT (arXiv 2506.21545, appendix): AdamW, cosine to a tenth of the learning rate, one epoch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

DEFAULT_CONFIG = "train.yaml"

Positive = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(ge=0)]


def train(
    texts: Sequence[str],
    model: str,
    output: Path,
    *,
    max_length: Annotated[int, Meta(ge=2)] = 1024,
    packing: Literal["sequential", "none"] = "sequential",
    max_tokens: Positive | None = None,
    epochs: Annotated[float, Meta(gt=0)] = 1.0,
    batch_size: Positive = 8,
    gradient_accumulation_steps: Positive = 4,
    learning_rate: Annotated[float, Meta(gt=0)] = 6e-4,
    min_learning_rate: Rate = 6e-5,
    scheduler: Literal["cosine", "linear", "constant"] = "cosine",
    warmup_steps: Rate = 2000,
    adam_beta1: Annotated[float, Meta(ge=0, lt=1)] = 0.9,
    adam_beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.98,
    adam_epsilon: Annotated[float, Meta(gt=0)] = 1e-6,
    weight_decay: Rate = 0.01,
    max_grad_norm: Rate = 1.0,
    from_scratch: Literal["auto"] | bool = "auto",
    gradient_checkpointing: bool = False,
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa",
    save_steps: Positive = 10000,
    save_total_limit: Positive | None = None,
    logging_steps: Positive = 10,
    report_to: str | list[str] = "none",
    project: str = "delt",
    seed: Annotated[int, Meta(ge=0)] = 10,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    dtype: Literal["auto", "float64", "float32", "bfloat16"] = "auto",
) -> dict[str, Any]:
    """Train `model` on `texts` in their order and save it in the folder `output`. -> facts for the manifest.

    Args:
        max_length: tokens of a sequence
        packing: sequential = documents one after the other, cut into blocks without padding; none = one a sequence
        max_tokens: stop after predicting this many tokens, repeating the file in its order; null = epochs
        epochs: passes over the file where max_tokens is null
        batch_size: sequences per optimizer step and device, before accumulation
        gradient_accumulation_steps: forward and backward passes per optimizer step
        learning_rate: highest learning rate of AdamW
        min_learning_rate: learning rate at the end (cosine)
        scheduler: shape of the learning rate after the warm-up
        warmup_steps: optimizer steps of linear warm-up; below 1 a share of all steps
        adam_beta1: decay of the first moment
        adam_beta2: decay of the second moment
        adam_epsilon: added to the root of the second moment
        weight_decay: decoupled weight decay
        max_grad_norm: gradients are clipped to this norm; 0 = no clipping
        from_scratch: auto = random weights where MODEL_IN has none; true = always; false = never
        gradient_checkpointing: recompute activations in the backward pass, less memory for a third more time
        attention: attention implementation of transformers
        save_steps: optimizer steps between checkpoints
        save_total_limit: checkpoints kept, the newest; null = all
        logging_steps: optimizer steps between entries of the log
        report_to: trackers, such as wandb or tensorboard; none = no tracker
        project: name of the project in the tracker
        seed: of new weights and dropout
        device: auto prefers a GPU
        dtype: auto = bfloat16 autocast where the device computes in it natively, else float32

    Raises: UserError for a model that does not load or is too short for max_length.
    """
    from common import models
    from common.tokens import PackedBlocks, SeparateDocuments, tokenize
    from model_train.trainer import fit, load_for_training

    tokenizer = models.load_tokenizer(model)
    picked = models.pick_device(device)
    precision = models.pick_dtype(dtype, picked)
    network = load_for_training(model, tokenizer, max_length, from_scratch, attention, precision, seed)
    store = tokenize(texts, tokenizer, total=len(texts))
    sequences = {"sequential": PackedBlocks, "none": SeparateDocuments}[packing]
    data = sequences(store, max_length, max_tokens, epochs)
    arguments = {
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "learning_rate": learning_rate,
        "warmup_steps": warmup_steps if warmup_steps < 1 else int(warmup_steps),
        "adam_beta1": adam_beta1,
        "adam_beta2": adam_beta2,
        "adam_epsilon": adam_epsilon,
        "weight_decay": weight_decay,
        "max_grad_norm": max_grad_norm,
        "activation_checkpointing": gradient_checkpointing,
        "save_steps": save_steps,
        "save_total_limit": save_total_limit,
        "logging_steps": logging_steps,
        "report_to": report_to,
        "project": project,
        "seed": seed,
    }
    if scheduler == "cosine":
        floor = {"min_lr_rate": min_learning_rate / learning_rate}
        arguments |= {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": floor}
    else:
        arguments |= {"lr_scheduler_type": f"{scheduler}_with_warmup" if scheduler == "constant" else scheduler}
    return fit(network, tokenizer, data, output, picked, precision, arguments)
