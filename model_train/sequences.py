"""From a token store to the sequences that the optimizer sees, in the order of the file.

A sequence is {"input_ids", "labels"}, (length,) each, labels IGNORED where nothing is predicted; blocks that keep
documents apart have "position_ids" too. Token i is predicted from the tokens before it, so that the first position of
a sequence never is.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from data_common.models.token_cache import Corpus
from data_common.models.tokens import IGNORED, TokenStore

Item = dict[str, np.ndarray]


class Sequences(Protocol):
    """What PackedBlocks and SeparateDocuments have in common."""

    budget: int  # tokens predicted by all sequences together
    epochs: float  # passes over the file
    cut: int  # documents of which tokens are left out

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Item: ...

    def documents(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Documents that the predicted tokens of a sequence come from, and how many come from each; (k,) both."""

    def owners(self, number: int) -> np.ndarray:
        """The document of each token of a sequence, (length,); (1,) where it is one."""

    def before(self, number: int) -> int:
        """Tokens predicted by the sequences before a sequence."""


class PackedBlocks:
    """Sequential packing: the documents one after the other, cut into blocks of `max_length` tokens.

    Neighbouring blocks share one token (the last of one is the first of the next), so every token but the very
    first is predicted exactly once a pass: no reordering, no padding but behind the last block, no token lost.
    Where attention does not cross documents, the first token of a document has nothing to be predicted from either.
    """

    def __init__(
        self,
        store: TokenStore,
        max_length: int,
        max_tokens: int | None = None,
        epochs: float = 1.0,
        cross_document_attention: bool = True,
    ):
        """The stream is repeated in its order until `max_tokens` are predicted; None = `epochs` passes."""
        self.tokens, self.starts, self.step = store.tokens, np.asarray(store.starts), max_length - 1
        self.cut, self.apart = 0, not cross_document_attention
        length = len(self.tokens)
        if self.apart:
            ends = np.cumsum(np.asarray(store.lengths) - 1)  # tokens predicted up to the end of each document
            self.budget = max_tokens or max(1, round(epochs * int(ends[-1])))
            passes, rest = divmod(self.budget - 1, int(ends[-1]))
            document = int(np.searchsorted(ends, rest, side="right"))
            before = int(ends[document - 1]) if document else 0
            self.last = passes * length + int(self.starts[document]) + 1 + rest - before  # the last one predicted
            self.epochs = self.budget / int(ends[-1])
        else:
            # From one pass to the next the first token is predicted too: only the very first of all never is.
            self.last = self.budget = max_tokens or max(1, round(epochs * length) - 1)
            self.epochs = (self.budget + 1) / length

    def __len__(self) -> int:
        return -(-self.last // self.step)

    def __getitem__(self, number: int) -> Item:
        places = self._places(number)
        ids = self.tokens[places]
        item = {"input_ids": ids, "labels": ids.astype(np.int64)}
        item["labels"][0] = IGNORED
        if self.apart:
            begins = self._begins(places)
            item["labels"][begins] = IGNORED
            first = np.maximum.accumulate(np.where(begins, np.arange(len(places)), 0))
            item["position_ids"] = np.arange(len(places)) - first
        return item

    def documents(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        places = self._places(number)[1:]
        if self.apart:
            places = places[~self._begins(places)]
        return np.unique(np.searchsorted(self.starts, places, side="right") - 1, return_counts=True)

    def owners(self, number: int) -> np.ndarray:
        return np.searchsorted(self.starts, self._places(number), side="right") - 1

    def before(self, number: int) -> int:
        end = min(number * self.step, self.last)  # the last token of the stream that they predict
        if not self.apart:
            return end
        passes, rest = divmod(end + 1, len(self.tokens))
        return end + 1 - passes * len(self.starts) - int(np.searchsorted(self.starts, rest))

    def _places(self, block: int) -> np.ndarray:
        """Where in the stream the tokens of a block are, (at most max_length,)."""
        first = block * self.step
        return np.arange(first, min(first + self.step, self.last) + 1) % len(self.tokens)

    def _begins(self, places: np.ndarray) -> np.ndarray:
        """Which of them are the first token of a document."""
        return self.starts[np.searchsorted(self.starts, places, side="right") - 1] == places


class SeparateDocuments:
    """No packing: one document a sequence, in order; documents longer than `max_length` are cut."""

    def __init__(self, store: Corpus | TokenStore, max_length: int, max_tokens: int | None = None, epochs: float = 1.0):
        """The file is repeated in its order until `max_tokens` are predicted (the last sequence is cut to meet them
        exactly); None = `epochs` passes. Of a store with `loss_mask`, only those tokens are predicted.
        """
        self.store, self.max_length = store, max_length
        self.loss_mask, self.cut = getattr(store, "loss_mask", None), int((store.lengths > max_length).sum())
        predicted = np.minimum(store.lengths, max_length) - 1
        if self.loss_mask is not None:
            ends = np.minimum(store.lengths, max_length) + store.starts
            bounds = np.ravel(np.column_stack([store.starts + 1, ends]))
            sums = np.add.reduceat(np.append(self.loss_mask, False), bounds, dtype=np.int64)[::2]
            predicted = np.where(predicted > 0, sums, 0)
        self.rows = np.flatnonzero(predicted > 0)
        self.ends = np.cumsum(predicted[self.rows])  # tokens predicted after each usable document of one pass
        self.budget = max_tokens or max(1, round(epochs * int(self.ends[-1])))
        self.epochs = self.budget / int(self.ends[-1])

    def __len__(self) -> int:
        passes, rest = divmod(self.budget, int(self.ends[-1]))
        return passes * len(self.rows) + (int(np.searchsorted(self.ends, rest)) + 1 if rest else 0)

    def __getitem__(self, number: int) -> Item:
        document = self.rows[number % len(self.rows)]
        ids = self.store[document][: self.max_length]
        labels = ids.astype(np.int64)
        labels[0] = IGNORED
        if self.loss_mask is not None:
            start = self.store.starts[document]
            labels[~self.loss_mask[start : start + len(ids)]] = IGNORED
        stop = np.flatnonzero(labels != IGNORED)[: self.budget - self.before(number)][-1] + 1
        return {"input_ids": ids[:stop], "labels": labels[:stop]}

    def documents(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        count = self.before(number + 1) - self.before(number)
        return self.rows[[number % len(self.rows)]], np.array([count])

    def owners(self, number: int) -> np.ndarray:
        return self.rows[[number % len(self.rows)]]

    def before(self, number: int) -> int:
        passes, row = divmod(number, len(self.rows))
        return min(self.budget, passes * int(self.ends[-1]) + (int(self.ends[row - 1]) if row else 0))


def collate(items: Sequence[Item | None], flat: bool = False) -> dict[str, torch.Tensor]:
    """A batch: "input_ids" and "labels", (batch, longest); with "position_ids" where documents are kept apart, with
    "token_weights" where the items have them. None is passed over.

    With causal attention no real token sees the padding behind it. Where documents are kept apart, transformers takes
    the mask from the position ids: a new document begins wherever they do not go on.
    flat: all in one row, (1, tokens), the only form in which flash attention heeds the position ids.
    """
    items = [item for item in items if item is not None]
    apart = flat or any("position_ids" in item for item in items)
    names = {"input_ids": 0, "labels": IGNORED} | ({"position_ids": 0} if apart else {})
    names |= {"token_weights": 0} if "token_weights" in items[0] else {}
    batch = {}
    for name, padding in names.items():
        columns = [item.get(name, np.arange(len(item["input_ids"]))) for item in items]
        batch[name] = torch.from_numpy(
            np.concatenate(columns)[None].astype(np.int64) if flat else _stack(columns, padding)
        )
    return batch


def _stack(columns: Sequence[np.ndarray], padding: int) -> np.ndarray:
    """(number, longest), padded on the right."""
    stacked = np.full((len(columns), max(map(len, columns))), padding, np.int64)
    for row, column in zip(stacked, columns, strict=True):
        row[: len(column)] = column
    return stacked
