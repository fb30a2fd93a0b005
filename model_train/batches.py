"""Which sequences each optimizer step learns from, and how much each of their tokens counts in its loss."""

import functools
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from data_common.messages.errors import UserError
from data_common.models.tokens import IGNORED
from model_train.sequences import Item, Sequences


class Part(NamedTuple):
    """Steps of one batch size."""

    step: int  # the first one, from 0
    sequence: int  # its first sequence
    batch_size: int  # sequences of a micro-batch


class Batches(torch.utils.data.Dataset):
    """The sequences in their order, cut into micro-batches; nothing wraps, nothing is dropped.

    A step has `lanes` micro-batches, taken in turn by the processes. Each has as many places as the largest of the
    batch sizes has sequences: those that a smaller one leaves are None. Behind the last sequence stand masked ones.
    """

    def __init__(
        self,
        sequences: Sequences,
        batch_size: int,
        lanes: int = 1,
        changes: Sequence[tuple[float, int]] = (),
        weights: np.ndarray | None = None,
    ):
        """batch_size: sequences of a micro-batch. lanes: processes x accumulation. weights: (documents,), None = equal.

        changes: (share of all tokens, batch size of the steps that begin there or behind it), ascending.
        Raises: UserError for a change that no step is left for.
        """
        self.sequences, self.lanes, self.weights = sequences, lanes, weights
        self.total = functools.lru_cache(maxsize=2)(self._total)
        self.width = max(batch_size, *(size for _, size in changes), 1)
        self.parts = [Part(0, 0, batch_size)]
        for share, size in changes:
            self.parts.append(self._part_at(share, size))
        self.steps = self.parts[-1].step + self._steps_left(self.parts[-1])

    def _part_at(self, share: float, size: int) -> Part:
        before = self.parts[-1]
        batch, wanted = before.batch_size * self.lanes, round(share * self.sequences.budget)
        left = self._steps_left(before)
        steps = bisect_left(range(left), wanted, key=lambda n: self.sequences.before(before.sequence + n * batch))
        if steps in (0, left):
            why = "no step begins there" if steps else "the step that begins there has another batch size already"
            raise UserError(f"batch_size_schedule: at={share:g} of {self.sequences.budget:,} tokens: {why}")
        return Part(before.step + steps, before.sequence + steps * batch, size)

    def _steps_left(self, part: Part) -> int:
        """Steps from the first of a part to the end, were it the last part."""
        return -(-(len(self.sequences) - part.sequence) // (part.batch_size * self.lanes))

    def __len__(self) -> int:
        return self.steps * self.lanes * self.width

    def __getitem__(self, place: int) -> Item | None:
        lane, slot = divmod(place, self.width)
        step, lane = divmod(lane, self.lanes)
        part = self.part(step + 1)
        if slot >= part.batch_size:
            return None
        number = part.sequence + ((step - part.step) * self.lanes + lane) * part.batch_size + slot
        known = number < len(self.sequences)
        item = self.sequences[number] if known else {"input_ids": np.zeros(2, np.int64), "labels": np.full(2, IGNORED)}
        if self.weights is not None:
            weight = self.weights[self.sequences.owners(number)] / self.total(step + 1) if known else 0.0
            weight = np.broadcast_to(weight, len(item["labels"])).astype(np.float32)
            item["token_weights"] = weight.view(np.int32)  # FSDP and DeepSpeed would round floats to bfloat16
        return item

    def part(self, step: int) -> Part:
        """What optimizer step `step` (from 1) belongs to."""
        return next(part for part in reversed(self.parts) if part.step < step)

    def size(self, step: int) -> int:
        """Sequences of optimizer step `step` (from 1), over all processes; the last one may have fewer."""
        return self.part(step).batch_size * self.lanes

    def facts(self) -> dict[str, Any]:
        """First steps (from 1) of other batch sizes, the tokens before each, and what the weights are."""
        facts: dict[str, Any] = {}
        if changes := self.parts[1:]:
            facts["batch_size_steps"] = [part.step + 1 for part in changes]
            facts["batch_size_tokens"] = [self.sequences.before(part.sequence) for part in changes]
        if self.weights is not None:
            names = {"lowest_weight": np.min, "mean_weight": np.mean, "highest_weight": np.max}
            facts |= {name: float(of(self.weights)) for name, of in names.items()}
            facts["documents_of_weight_0"] = int((self.weights == 0).sum())
        return facts

    def documents(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Documents that optimizer step `step` (from 1) learns from, and how many tokens of each."""
        part = self.part(step)
        first = part.sequence + (step - 1 - part.step) * self.size(step)
        numbers = range(first, min(first + self.size(step), len(self.sequences)))
        parts = [self.sequences.documents(number) for number in numbers]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def _total(self, step: int) -> float:
        """Weights of all tokens that a step learns; 1 where all are 0."""
        documents, counts = self.documents(step)
        return float(self.weights[documents] @ counts) or 1.0
