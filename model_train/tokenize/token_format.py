"""What a format of tokens on disk is: documents are written in their order, and read back one by one."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from model_train.tokenize.documents import Documents


class TokenFormat(ABC):
    """Files of one trainer."""

    shard_tokens: ClassVar[int | None] = None  # of a file where the call does not say; None = there is one file only

    def __init__(self, vocabulary: int, shard_tokens: int | None):
        """vocabulary: one more than the highest token id. shard_tokens: of a file at most, in a format with several.

        Raises: UserError where the format does not hold such ids.
        """
        self.vocabulary, self.tokens_of_a_shard = vocabulary, shard_tokens or self.shard_tokens

    @property
    @abstractmethod
    def token_type(self) -> np.dtype:
        """Of the ids on disk."""

    @abstractmethod
    def write(self, folder: Path, parts: Iterable[Documents]) -> None:
        """Fill an empty folder. Raises: UserError for documents that the format cannot hold."""

    @abstractmethod
    def read(self, folder: Path, lengths: Iterable[int]) -> Iterator[np.ndarray]:
        """The token ids of one document after the other, as the trainer's reader finds them.

        lengths: of the documents, for a format that does not know where one ends. What is in the files beyond the last
        one is one document more.
        """
