"""Vectors of texts by an encoder or a causal LM: its last hidden states, pooled over the tokens of a text.

A text is BOS or CLS, where the tokenizer has one, its tokens, and SEP, where the tokenizer has one.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from data_common.messages.errors import UserError
from data_common.models import loading
from data_common.models.hidden_states import hidden_states, probe, to_batch
from data_common.models.special_tokens import Special
from data_common.models.tokens import TokenStore, check_ids, special_tokens, token_budget_batches
from data_common.models.traits import check_positions, traits
from data_common.vectors.settings import Pooling

BATCH_TOKENS, CPU_BATCH_TOKENS = 16384, 1024  # of one forward pass; a CPU is fastest with little padding
BATCHES = 64  # about as many are sorted by length at a time


class LanguageModel:
    """Texts to vectors of length 1; `width` numbers each, `part` texts at a time are a good number."""

    def __init__(
        self,
        path: str,
        pooling: Pooling,
        max_length: int,
        batch_tokens: int | None = None,
        device: str = "auto",
        dtype: loading.Dtype = "auto",
        special: Special = "text",
        trust_remote_code: bool = False,
    ):
        """path: folder or hub id. max_length: tokens of a text that are read. batch_tokens: padded, of a forward pass.

        Raises: UserError where it does not load, or cannot be read in this way.
        """
        self.path, self.pooling, self.max_length = path, pooling, max_length
        self.device = loading.pick_device(device)
        precision = loading.pick_dtype(dtype, self.device)
        self.autocast = precision if precision.itemsize == 2 else None
        self.tokenizer = loading.load_tokenizer(path, trust_remote_code, special)
        options = {"dtype": torch.float32 if self.autocast else precision, "trust_remote_code": trust_remote_code}
        self.model = loading.load_backbone(path, self.tokenizer, **options).to(self.device)
        self.model.config.use_cache = False
        check_positions(self.model, max_length, "embedding_max_length")
        self.causal, self.mixed_lengths, self.width = probe(self.model, max_length)
        if self.causal:
            traits(self.model, max_length)
        if self.causal and pooling == "cls":
            raise UserError(f"pooling=cls: {path} is a causal model, whose first token sees no other: pooling=mean")
        usual = CPU_BATCH_TOKENS if self.device.type == "cpu" else BATCH_TOKENS
        self.batch_tokens = batch_tokens or max(max_length, usual)
        self.part = max(256, BATCHES * self.batch_tokens // min(max_length, 256))
        _tell_pooling(path, pooling)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, width) float32; NaN for a text without a token. Raises: UserError where the model gives NaN."""
        documents, readable = self._tokenize(texts)
        result = np.full((len(texts), self.width), np.nan, np.float32)
        chosen = documents.take(np.flatnonzero(readable))
        check_ids(chosen, self.tokenizer, self.model)
        pooled = np.empty((len(chosen), self.width), np.float32)
        for rows in token_budget_batches(chosen.lengths, self.batch_tokens, self.mixed_lengths):
            pooled[rows] = self._pooled([chosen[row] for row in rows])
        if not np.isfinite(pooled).all():
            number = np.flatnonzero(readable)[np.argmin(np.isfinite(pooled).all(1))]
            raise UserError(f"{self.path} gives vectors that are no finite numbers (such as of {texts[number][:40]!r})")
        result[readable] = pooled
        return result

    def _tokenize(self, texts: Sequence[str]) -> tuple[TokenStore, np.ndarray]:
        """-> (documents, whether each text has a token)."""
        start, _ = special_tokens(self.tokenizer)
        end = [token for token in [self.tokenizer.sep_token_id] if token is not None]
        room = max(1, self.max_length - len(start) - len(end))
        encoded = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        documents = [np.array(start + ids[:room] + end, np.int64) for ids in encoded]
        lengths = np.array([len(document) for document in documents], np.int64)
        tokens = np.concatenate(documents) if documents else np.empty(0, np.int64)
        return TokenStore(tokens, np.cumsum(lengths) - lengths, lengths), np.array([bool(ids) for ids in encoded], bool)

    @torch.inference_mode()
    def _pooled(self, documents: Sequence[np.ndarray]) -> np.ndarray:
        batch = {name: part.to(self.device) for name, part in to_batch(documents).items()}
        mask = batch["attention_mask"]
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            # With causal attention no token sees the padding behind it; without a mask attention is fastest.
            hidden = hidden_states(self.model, batch["input_ids"], None if self.causal else mask)
        exact = torch.promote_types(hidden.dtype, torch.float32)
        weights = pooling_weights(mask, self.pooling).to(exact)
        hidden = hidden.to(exact).masked_fill(mask.unsqueeze(2) == 0, 0)  # what is computed of padding may be NaN
        pooled = (weights.unsqueeze(1) @ hidden).squeeze(1)
        return torch.nn.functional.normalize(pooled, dim=1).float().cpu().numpy()


def pooling_weights(mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """The weight of each token in the vector of its text, (texts, longest); 0 on padding, of sum 1.

    mask: (texts, longest), 1 on tokens, 0 on the padding behind them. position-weighted: token t of T has t / (1 + ...
    + T), so that a causal LM's late tokens, which have seen most of the text, count most (SGPT, arXiv 2202.08904).
    """
    positions = mask.cumsum(1) * mask
    lengths = mask.sum(1, keepdim=True)
    if pooling == "last":
        return (positions == lengths).double() * mask
    if pooling == "cls":
        return (positions == 1).double()
    weights = (mask if pooling == "mean" else positions).double()
    return weights / weights.sum(1, keepdim=True)


def _tell_pooling(path: str, pooling: Pooling) -> None:
    """Say where the folder of a sentence encoder names another pooling than the one that is taken."""
    names = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last"}
    names["pooling_mode_weightedmean_tokens"] = "position-weighted"
    try:
        facts = json.loads((Path(path) / "1_Pooling/config.json").read_text(encoding="utf-8"))
        trained = [name for key, name in names.items() if facts.get(key)] or [facts.get("pooling_mode")]
    except (OSError, ValueError, AttributeError):
        return
    trained = ["position-weighted" if one == "weightedmean" else one for one in trained]
    if pooling not in trained:
        print(f"note: {path} was trained with pooling={trained[0]}; pooling={pooling} is taken")
