"""The two steps from texts to token log-probabilities, each in its own folder: tokenize -> score.

tokenize   tokens.bin index.bin bytes.npy   every row as tokens (data_common/models/samples.py); its UTF-8 bytes
score      part-00000.npy ...               log p of every predicted token, row after row
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_common.calls import remote_code
from data_common.calls.progress import Progress
from data_common.files.atomic import save_array
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.models import loading
from data_common.models.likelihood import TokenLogProbabilities, document_log_probabilities
from data_common.models.samples import load_samples, write_samples
from data_common.models.settings import attention_identity
from data_common.models.special_tokens import Spelled, identity_of
from data_common.models.tokens import check_ids, special_tokens, without_end
from data_common.models.traits import check
from data_common.parallel import distributed
from data_scoring.engines.likelihood.scorer import LikelihoodScorer

PART = 2**18  # predicted tokens computed and saved at a time: what a killed run loses, what processes share
BATCH_TOKENS, CPU_BATCH_TOKENS = 16384, 1024  # of one forward pass; a CPU is fastest with little padding

# (log-probabilities (tokens,), first token of each row (rows,), tokens of each row (rows,)) -> (rows,)
Summary = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class RowLikelihood:
    """The token log-probabilities of every row under one model.

    A row is BOS, where the tokenizer has one, and the tokens of its text. All but the first are predicted, EOS is not:
    without BOS the first token of the text is context only.
    """

    def __init__(self, keys: LikelihoodScorer, texts: Sequence[str], work: WorkFolder, name: str):
        """name: of the model among the inputs of `keys`."""
        self.keys, self.texts, self.work, self.name = keys, texts, work, name
        self.path = keys.inputs()[name]
        self.tokenizer = loading.load_tokenizer(self.path, keys.trust_remote_code, keys.special)
        suffix = "" if name == "model" else f"-{name}"
        self.folders = {step: work.path / f"{step}{suffix}" for step in ("tokenize", "score")}
        self._tokenize()
        samples = load_samples(self.folders["tokenize"], self.tokenizer)
        start, _ = special_tokens(self.tokenizer)
        self.documents = without_end(samples, self.tokenizer)
        self.tokens = self.documents.lengths - len(start)  # of the text of each row, (rows,)
        self.predicted = np.maximum(self.documents.lengths - 1, 0)  # of them, (rows,)
        self.bytes = np.load(self.folders["tokenize"] / "bytes.npy")  # UTF-8, of the text of each row, (rows,)
        self._score()

    def summarise(self, summary: Summary) -> np.ndarray:
        """`summary` of the log-probabilities of each row, (rows,); NaN for a row without a token to predict."""
        result = np.full(len(self.documents), np.nan)
        for part, rows in self._parts():
            counts = self.predicted[rows]
            values = np.load(part).astype(np.float64)
            result[rows] = summary(values, np.cumsum(counts) - counts, counts)
        return result

    def _tokenize(self) -> None:
        def write(folder: Path) -> dict[str, Any]:
            # What is wrong with the model is better known before the corpus is tokenized than after it.
            check(self._model(), self.keys.max_length)
            name, whole = f"tokenizing for {self.name}", sys.maxsize  # a row is one sample
            spelled = Spelled(self.tokenizer, self.keys.special)
            write_samples(folder, spelled(self.texts), self.tokenizer, whole, "cut", len(self.texts), name)
            save_array(folder / "bytes.npy", np.fromiter((len(text.encode()) for text in self.texts), np.int64))
            return spelled.facts()

        identity = remote_code.identity(self.keys.trust_remote_code) | identity_of(self.keys.special)
        after = ("data", "reading", self.name)
        facts = self.work.step(self.folders["tokenize"].name, identity, after, write, alone=True)
        self.keys.tell_spelled(facts, len(self.texts))

    def _score(self) -> None:
        keys = self.keys
        if not self.predicted.any():
            raise UserError("no row has a token to predict")
        device = loading.pick_device(keys.device)
        dtype = loading.pick_dtype(keys.dtype, device)
        usual = CPU_BATCH_TOKENS if device.type == "cpu" else BATCH_TOKENS
        batch_tokens = keys.batch_tokens or max(keys.max_length, usual)
        windows = {"max_length": keys.max_length, "stride": keys.stride, "batch_tokens": batch_tokens}

        def compute(folder: Path) -> dict[str, Any]:
            mine = self._parts()[distributed.rank() :: distributed.size()]
            missing = [(part, rows) for part, rows in mine if not part.exists()]
            network = self._network(device, dtype)
            total = sum(int(self.predicted[rows].sum()) for _, rows in missing)
            with Progress(desc=f"reading by {self.name}", total=total, unit="token", unit_scale=True) as bar:
                for part, rows in missing:
                    documents = self.documents.take(rows)
                    save_array(part, document_log_probabilities(network, documents, progress=bar, **windows))
            return {"tokens": int(self.predicted.sum())}

        after = (self.folders["tokenize"].name, self.name)
        facts = self.work.step(
            self.folders["score"].name,
            windows | {"dtype": str(dtype)} | attention_identity(keys.attention),
            after,
            compute,
        )
        keys.facts[self.name] = facts | {"dtype": str(dtype).removeprefix("torch.")}

    def _network(self, device: torch.device, dtype: torch.dtype) -> TokenLogProbabilities:
        autocast = dtype if dtype.itemsize == 2 else None
        weights = torch.float32 if autocast else dtype
        model = self._model(dtype=weights, attn_implementation=self.keys.attention).to(device)
        check(model, self.keys.max_length)
        check_ids(self.documents, self.tokenizer, model)
        return TokenLogProbabilities(model, autocast)

    def _model(self, **options: Any) -> torch.nn.Module:
        options |= {"trust_remote_code": self.keys.trust_remote_code}
        return loading.load_model(self.path, self.tokenizer, **options)

    def _parts(self) -> list[tuple[Path, np.ndarray]]:
        """(file, rows) of each part: whole rows, of PART predicted tokens together or of one long row."""
        rows = np.flatnonzero(self.predicted)
        before = np.cumsum(self.predicted[rows]) - self.predicted[rows]
        _, firsts = np.unique(before // PART, return_index=True)
        groups = np.split(rows, firsts[1:])
        return [(self.folders["score"] / f"part-{number:05}.npy", group) for number, group in enumerate(groups)]


def mean(values: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """A `Summary`: the mean of the log-probabilities of each row."""
    return np.add.reduceat(values, starts) / counts
