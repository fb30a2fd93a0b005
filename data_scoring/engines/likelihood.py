"""Token log-probabilities of every row under causal language models, in two steps for each, with folders of their own.

tokenize   tokens.bin index.bin bytes.npy   every row as tokens (data_common/models/samples.py); its UTF-8 bytes
answers    answers.npy bytes.npy    with score_tokens=answer: which predicted tokens are of an answer; its UTF-8 bytes
score      part-00000.npy ...               log p of every predicted token, row after row
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
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
from data_common.models.checks import check_model
from data_common.models.likelihood import Documents, TokenLogProbabilities, counted, document_log_probabilities
from data_common.models.samples import copy_samples, load_samples, write_samples
from data_common.models.settings import attention_identity
from data_common.models.special_tokens import Special, Spelled, about, identity_of, special_names
from data_common.models.token_cache import tokenizer_identity
from data_common.models.tokens import check_ids, special_tokens, without_end
from data_common.models.traits import check
from data_scoring.engines.answers import find_answers
from data_scoring.engines.parts import compute_sample_parts, sample_part_files
from data_scoring.engines.settings import Forward

PART = 2**18  # predicted tokens computed and saved at a time: what a killed run loses, what processes share
BATCH_TOKENS, CPU_BATCH_TOKENS = 16384, 1024  # of one forward pass; a CPU is fastest with little padding

# (log-probabilities (tokens,), first token of each row (rows,), tokens of each row (rows,)) -> (rows,)
Summary = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def scored_tokens(predicted: np.ndarray, answers: np.ndarray | None) -> np.ndarray:
    """Of the predicted tokens of each row, (rows,), those that are of an answer. answers: (tokens,); None = all are."""
    if answers is None:
        return predicted
    ends = np.cumsum(predicted)
    before = np.concatenate([[0], np.cumsum(answers)])
    return before[ends] - before[ends - predicted]


def check_forward(forward: Forward, models: Iterable[str]) -> None:
    """Raises UserError for a model (folder or hub id) or a device that cannot be had."""
    loading.pick_dtype(forward.loading.dtype, loading.pick_device(forward.loading.device))
    for path in models:
        check_model(path, forward.max_length, trust_remote_code=forward.loading.trust_remote_code)


@dataclass(frozen=True)
class RowLikelihood:
    """The log-probabilities of the tokens of every row under one model."""

    documents: Documents
    text_tokens: np.ndarray  # of what is scored of each row, (rows,)
    bytes: np.ndarray  # UTF-8, of what is scored of each row, (rows,)
    answers: np.ndarray | None  # which of the predicted tokens are scored, (tokens,); None = all
    groups: list[np.ndarray]  # rows of each part
    files: list[Path]  # of each part
    facts: dict[str, Any]
    warnings: list[str]

    def summarise(self, summary: Summary) -> np.ndarray:
        """`summary` of the log-probabilities of each row, (rows,); NaN for a row without a token to score."""
        result = np.full(len(self.documents.store), np.nan)
        done = 0  # predicted tokens of the parts before
        for file, rows in zip(self.files, self.groups, strict=True):
            values = np.load(file).astype(np.float64)
            if self.answers is not None:
                values = values[self.answers[done : done + len(values)]]
            done += int(self.documents.predicted[rows].sum())
            rows = rows[self.scored_tokens[rows] > 0]
            counts = self.scored_tokens[rows]
            if len(rows):
                result[rows] = summary(values, np.cumsum(counts) - counts, counts)
        return result

    @cached_property
    def scored_tokens(self) -> np.ndarray:
        """How many tokens of each row are scored, (rows,)."""
        return scored_tokens(self.documents.predicted, self.answers)

    def means(self) -> np.ndarray:
        """The mean log-probability of the tokens of each row, (rows,); NaN for a row without a token to predict."""
        return self.summarise(lambda values, starts, counts: np.add.reduceat(values, starts) / counts)


def read_rows(
    texts: Sequence[str], models: Mapping[str, str], forward: Forward, special: Special, work: WorkFolder
) -> list[RowLikelihood]:
    """What each of the models gives for the rows; computed where it is not there.

    models: name among the inputs -> folder or hub id. special: how text that spells special tokens is read.
    """
    found, tokenized = [], {}
    for name, path in models.items():
        tokenizer = loading.load_tokenizer(path, forward.loading.trust_remote_code, special)
        network = cache(lambda path=path, tokenizer=tokenizer: _load(path, tokenizer, forward))
        key = tokenizer_identity(tokenizer), *special_names(tokenizer)
        folder, spelled = _tokenize(texts, name, tokenizer, network, tokenized.get(key), forward, special, work)
        tokenized.setdefault(key, (folder, spelled))
        samples = load_samples(folder, tokenizer)
        documents = Documents(without_end(samples, tokenizer), np.load(folder / "bytes.npy"))
        if not documents.predicted.any():
            raise UserError("no row has a token to predict")
        answers, sizes = None, documents.bytes
        text_tokens = documents.store.lengths - len(special_tokens(tokenizer)[0])
        if forward.score_tokens == "answer":
            answers, sizes = find_answers(texts, documents, tokenizer, _step_name("answers", name), folder.name, work)
            text_tokens = scored_tokens(documents.predicted, answers)
        groups, files, facts = _score(documents, name, tokenizer, network, forward, work)
        counts, warnings = about(spelled, len(texts), special)
        found.append(RowLikelihood(documents, text_tokens, sizes, answers, groups, files, counts | facts, warnings))
    return found


def _step_name(step: str, name: str) -> str:
    """Of a step for the model of that name."""
    return step if name == "model" else f"{step}-{name}"


def _tokenize(
    texts: Sequence[str],
    name: str,
    tokenizer,
    network: Callable[[], TokenLogProbabilities],
    same: tuple[Path, dict[str, int]] | None,
    forward: Forward,
    special: Special,
    work: WorkFolder,
) -> tuple[Path, dict[str, int]]:
    """-> (folder of the samples, how many rows spell special tokens). same: of a model with the same tokenizer."""

    def write(folder: Path) -> dict[str, int]:
        network()  # what is wrong with the model is better known before the corpus is tokenized than after it
        if same is not None:
            copy_samples(same[0], folder)
            save_array(folder / "bytes.npy", np.load(same[0] / "bytes.npy"))
            return same[1]
        spelled, sizes, whole = Spelled(tokenizer, special), [], sys.maxsize  # a row is one sample
        passing = counted(spelled(texts), sizes)
        write_samples(folder, passing, tokenizer, whole, "cut", len(texts), f"tokenizing for {name}")
        save_array(folder / "bytes.npy", np.array(sizes, np.int64))
        return spelled.facts()

    identity = remote_code.identity(forward.loading.trust_remote_code) | identity_of(special)
    step = _step_name("tokenize", name)
    return work.path / step, work.step(step, identity, ("data", "reading", name), write, alone=True)


def _score(
    documents: Documents,
    name: str,
    tokenizer,
    network: Callable[[], TokenLogProbabilities],
    forward: Forward,
    work: WorkFolder,
) -> tuple[list[np.ndarray], list[Path], dict[str, Any]]:
    """-> (rows of each part, file of each part, facts about the model)."""
    device, dtype = _place(forward)
    usual = CPU_BATCH_TOKENS if device.type == "cpu" else BATCH_TOKENS
    batch_tokens = forward.batch_tokens or max(forward.max_length, usual)
    windows = {"max_length": forward.max_length, "stride": forward.stride or forward.max_length}
    windows |= {"batch_tokens": batch_tokens}
    groups = _groups(documents.predicted)

    def compute(folder: Path) -> dict[str, Any]:
        check_ids(documents.store, tokenizer, network().model)

        def read(rows: np.ndarray, progress: Progress) -> np.ndarray:
            return document_log_probabilities(network(), documents.store.take(rows), progress=progress, **windows)

        compute_sample_parts(folder, groups, documents.predicted, read, f"reading by {name}")
        return {"tokens": int(documents.predicted.sum())}

    before, step = _step_name("tokenize", name), _step_name("score", name)
    identity = windows | {"dtype": str(dtype)} | attention_identity(forward.loading.attention)
    facts = work.step(step, identity, (before, name), compute) | {"dtype": str(dtype).removeprefix("torch.")}
    return groups, sample_part_files(work.path / step, len(groups)), {name: facts}


def _place(forward: Forward) -> tuple[torch.device, torch.dtype]:
    device = loading.pick_device(forward.loading.device)
    return device, loading.pick_dtype(forward.loading.dtype, device)


def _load(path: str, tokenizer, forward: Forward) -> TokenLogProbabilities:
    device, dtype = _place(forward)
    autocast = dtype if dtype.itemsize == 2 else None
    options = {"dtype": torch.float32 if autocast else dtype, "attn_implementation": forward.loading.attention}
    trust = {"trust_remote_code": forward.loading.trust_remote_code}
    model = loading.load_model(path, tokenizer, **options, **trust).to(device)
    check(model, forward.max_length)
    return TokenLogProbabilities(model, autocast)


def _groups(predicted: np.ndarray) -> list[np.ndarray]:
    """The rows of each part: whole rows, of PART predicted tokens together or of one long row."""
    rows = np.flatnonzero(predicted)
    before = np.cumsum(predicted[rows]) - predicted[rows]
    _, firsts = np.unique(before // PART, return_index=True)
    return np.split(rows, firsts[1:])
