"""The data scorer of LQS and PDS: a small language model with a linear head that predicts the score of a text.

PDS (arXiv 2410.07064): the last hidden states, averaged over the tokens of a text, go through a linear
head. On disk it is a folder that `AutoModel` and `AutoTokenizer` load, with the head and `data_scorer.json` beside.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import RemoteEntryNotFoundError
from safetensors.torch import load_file, save_file

from data_common.calls.progress import Progress
from data_common.files.atomic import draft_of, read_json
from data_common.files.durable import publish
from data_common.hub.network import hub_token
from data_common.hub.snapshots import MODEL_FILES, UNWANTED_FILES
from data_common.messages.errors import UserError
from data_common.models import loading
from data_common.models.hidden_states import probe, to_batch
from data_common.models.tokens import TokenStore, token_budget_batches
from data_common.models.traits import LONG, check_positions, states_of

FACTS, HEAD = "data_scorer.json", "head.safetensors"
GROUPS = 4  # of similar length in a batch of training; 2 to 3 times as fast as one for lognormal lengths (mean 300)
HEAD_DEVIATION = 0.02  # standard deviation of the weights of a new head: predictions start near the mean score


class DataScorer(torch.nn.Module):
    """Mean of the last hidden states over the tokens of a text, then a linear head with bias."""

    def __init__(self, backbone: torch.nn.Module, seed: int = 0, max_length: int = LONG):
        """seed: of the weights of the head. max_length: tokens of the longest document."""
        super().__init__()
        self.backbone = backbone
        self.backbone.config.use_cache = False
        self.causal, self.mixed_lengths, width = probe(backbone, max_length)
        self.head = torch.nn.Linear(width, 1, device=backbone.device, dtype=torch.float32)
        with torch.no_grad():
            weight = torch.randn(1, width, generator=torch.Generator().manual_seed(seed))
            self.head.weight.copy_(HEAD_DEVIATION * weight)
            self.head.bias.zero_()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """`logits` (batch,), float32 under autocast too; with labels (batch,) also their mean squared error, `loss`.

        input_ids, attention_mask: (batch, length), padded on the right.
        """
        compute = self._in_groups if self.training else self._logits
        logits = compute(input_ids, attention_mask)
        if labels is None:
            return {"logits": logits}
        return {"loss": torch.nn.functional.mse_loss(logits, labels), "logits": logits}

    def _logits(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        # With causal attention no token sees the padding behind it; without a mask attention has its fastest kernels.
        mask = None if self.causal else attention_mask
        hidden = states_of(self.backbone(input_ids=input_ids, attention_mask=mask))
        with torch.autocast(hidden.device.type, enabled=False):
            real = attention_mask.unsqueeze(-1).float()
            return self.head((hidden.float() * real).sum(1) / real.sum(1)).squeeze(-1)

    def _in_groups(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The same, with less padding, or without: a batch of training holds documents of all lengths."""
        lengths = attention_mask.sum(1)
        by_length = lengths.argsort(stable=True)
        same = torch.unique_consecutive(lengths[by_length], return_counts=True)[1].tolist()
        chosen = by_length.chunk(GROUPS) if self.mixed_lengths else by_length.split(same)
        groups = [(rows, int(lengths[rows[-1]])) for rows in chosen]
        parts = [self._logits(input_ids[rows, :longest], attention_mask[rows, :longest]) for rows, longest in groups]
        return torch.cat(parts)[by_length.argsort()]

    def as_loaded(self, max_length: int) -> "DataScorer":
        """This one, once it is fitted, as `load` would give it: probed with the weights that it has now."""
        self.zero_grad(set_to_none=True)
        self.to("cpu").eval()
        self.causal, self.mixed_lengths, _ = probe(self.backbone, max_length)
        return self

    def save(self, folder: Path, tokenizer, facts: Mapping[str, Any]) -> None:
        """Write all that scoring needs to `folder`, whole or not at all. facts: for data_scorer.json."""
        with draft_of(folder, folder=True) as draft:
            self.backbone.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
            save_file({name: tensor.contiguous() for name, tensor in self.head.state_dict().items()}, draft / HEAD)
            (draft / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            publish(draft, folder)


def new(base: str, max_length: int, seed: int, trust_remote_code: bool = False) -> tuple[DataScorer, Any]:
    """A data scorer to be fitted, in float32: the weights of a folder or hub id, a random head. -> (scorer, tokenizer).

    base: an encoder or a causal language model. max_length: tokens of the longest document. trust_remote_code: run
    Python code that comes with it.
    Raises: UserError where it does not load, has no weights, or fewer positions than max_length.
    """
    tokenizer = loading.load_tokenizer(base, trust_remote_code)
    backbone = loading.load_backbone(base, tokenizer, dtype=torch.float32, trust_remote_code=trust_remote_code)
    check_positions(backbone, max_length, "scorer_max_length")
    return DataScorer(backbone, seed, max_length), tokenizer


def load_reader(path: str, trust_remote_code: bool = False) -> tuple[Path, Any, dict[str, Any]]:
    """`load` without the weights: how it reads a text. -> (folder, tokenizer, facts of data_scorer.json)."""
    folder = Path(path) if Path(path).is_dir() else _download(path)
    missing = [name for name in (FACTS, HEAD) if not (folder / name).exists()]
    if missing:
        raise UserError(f"{path} is no data scorer: {missing[0]} is missing")
    with loading.errors_of(path, FACTS):
        facts = read_json(folder / FACTS)
    return folder, loading.load_tokenizer(str(folder), trust_remote_code), facts


def load(path: str, trust_remote_code: bool = False) -> tuple[DataScorer, Any, dict[str, Any]]:
    """A fitted data scorer, in float32, from a folder or a hub id. -> (scorer, tokenizer, facts of data_scorer.json).

    Raises: UserError if it is missing, or a part of it is missing or broken.
    """
    folder, tokenizer, facts = load_reader(path, trust_remote_code)
    options = {"dtype": torch.float32, "trust_remote_code": trust_remote_code}
    backbone = loading.load_backbone(str(folder), tokenizer, **options)
    scorer = DataScorer(backbone, max_length=facts.get("max_length", LONG)).eval()
    with loading.errors_of(path, HEAD):
        scorer.head.load_state_dict(load_file(folder / HEAD))
    return scorer, tokenizer, facts


def shape_of(path: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Of what length the samples of a data scorer are, and what it does with longer rows. Raises: UserError."""
    names = ("max_length", "long_rows")
    missing = [name for name in names if name not in facts]
    if missing:
        raise UserError(f"{path} is no data scorer of this project: it does not say its {missing[0]}")
    return {name: facts[name] for name in names}


def _download(hub_id: str) -> Path:
    """The folder of the hub's cache that holds the data scorer."""
    options = loading.source_options(hub_id) | {"token": hub_token()}
    with loading.errors_of(hub_id, "data scorer"):
        try:
            hf_hub_download(hub_id, FACTS, **options)  # before the weights of what may be any other model
        except RemoteEntryNotFoundError:
            raise UserError(f"{hub_id} is no data scorer: {FACTS} is missing") from None
        return Path(snapshot_download(hub_id, allow_patterns=MODEL_FILES, ignore_patterns=UNWANTED_FILES, **options))


@torch.inference_mode()
def predict(
    scorer: DataScorer,
    store: TokenStore,
    batch_tokens: int,
    autocast: torch.dtype | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """The prediction for every document of the store, none of which is empty; (n,) float32.

    batch_tokens: padded tokens of one forward pass. autocast: None computes in the weights' own precision.
    progress: told of the tokens of each batch. The batches, and with them every bit of the result, depend on the store
    alone.
    """
    scorer.eval()
    device = scorer.head.weight.device
    predictions = np.empty(len(store), np.float32)
    with torch.autocast(device.type, autocast, enabled=autocast is not None):
        for rows in token_budget_batches(store.lengths, batch_tokens, scorer.mixed_lengths):
            batch = to_batch([store[row] for row in rows])
            predictions[rows] = scorer(**{key: part.to(device) for key, part in batch.items()})["logits"].cpu().numpy()
            if progress is not None:
                progress.update(int(store.lengths[rows].sum()))
    return predictions
