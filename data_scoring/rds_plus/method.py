"""RDS+: how near a row is to each query of a target set, by the hidden states of a language model.

Large-Scale Data Selection for Instruction Tuning (arXiv 2503.01807, section 3): the mean of the last hidden states,
weighted by position, and cosines. README.md beside this file has the formula and the selection that goes with it.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.row_methods.groups import group_column, group_names, numbered
from data_common.rows.columns import Column, scan
from data_common.rows.jsonl import open_source
from data_common.rows.texts import RowTexts
from data_common.vectors.embedding import EmbeddingSpace
from data_common.vectors.nearest import similarities
from data_common.vectors.settings import Embedder, MaxLength, Pooling
from data_scoring.scorer import BaseScorer

ABOUT = {
    "family": "nearness to a target",
    "needs": "a causal LM, best the one to be trained; a target set",
    "cost": "one forward pass",
    "formula": "paper",
}
MOST = 256  # queries with a field of their own
DIGITS = 6  # behind the point, of a cosine: vectors of float16 have no more
BLOCK = 2**14  # rows that are compared at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueryEmbedder(Embedder):
    """The embedder of the paper.

    Args:
        embedder: the causal language model that will be trained; also an encoder, a folder of token vectors
            (model2vec), or tfidf; folder or hub id
    """

    embedder: str | None = None
    pooling: Pooling = "position-weighted"
    embedding_max_length: MaxLength = 2048

    def __post_init__(self):
        """Raises: UserError if `embedder` is not set."""
        if self.embedder is None:
            raise UserError("embedder is not set: the causal language model that will be trained; folder or hub id")
        super().__post_init__()


class Scorer(BaseScorer):
    """Cosine of a row and the nearest row of the target; one field more for each query; higher = nearer.

    Args:
        target_data: what the selected rows are for, prompt and answer; JSONL file, glob or folder
        target_field: its text field, or a list of them, joined by newlines
        target_group_field: the target rows with one value of this field, of a task, say, are one query, and the nearest
            of them counts; null = each target row is a query
        query_fields: a field for each query, similarity_0, similarity_1, ... or similarity_GROUP, in which selection
            round-robin picks in turn; false = the score alone
    """

    higher_is_better = True
    shares_work = True

    def __init__(
        self,
        *,
        embedding: QueryEmbedder,
        target_data: str | None = None,
        target_field: str | list[str] = "text",
        target_group_field: str | None = None,
        query_fields: bool = True,
    ):
        super().__init__()
        if target_data is None:
            raise UserError("target_data is not set: the rows that the corpus is compared with")
        self.embedding, self.special = embedding, embedding.special_tokens_in_text
        self.target_data, self.query_fields = target_data, query_fields
        self.target_fields = (target_field,) if isinstance(target_field, str) else tuple(target_field)
        self.group = group_column(target_group_field) if target_group_field else None

    def declare(self) -> None:
        """Raises: UserError for a target that cannot be read, or has more queries than a row can have fields."""
        with self._target() as (_, _, names):
            if self.query_fields and len(names) > MOST:
                cure = "target_group_field=FIELD makes one of all rows with one value; query_fields=false writes none"
                raise UserError(f"target_data={self.target_data} has {len(names):,} queries, each a field: {cure}")
            self.extra_directions = {field: "higher" for field in self._fields(names)}

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError where the embedder cannot be had."""
        self.embedding.check()

    def inputs(self) -> dict[str, str]:
        """The target, and the embedder."""
        return {"target_data": self.target_data} | self.embedding.inputs()

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray:
        """The largest cosine of every text with a target row, (n,); NaN for a text without a token."""
        space = EmbeddingSpace(dataclasses.replace(self.embedding, special_tokens_in_text=self.special), texts)
        vectors = space.vectors(texts, "rows")
        with self._target() as (rows, query, names):
            targets = space.vectors(rows, "the target")
            without = np.isnan(targets[:, :1]).any(axis=1)
            if without.any():
                place = rows.source.place(int(rows.rows.start[np.argmax(without)]))
                raise UserError(f"{place}: target without a token that the embedder knows: leave this row out")
            found = nearest_of_each_query(vectors, targets, query, len(names))
        self.facts |= {"queries": len(names), "vectors": space.facts}
        self.extra = dict(zip(self._fields(names), found.T, strict=False))
        return found.max(axis=1)

    def _fields(self, names: Sequence[str]) -> list[str]:
        return [f"similarity_{name}" for name in names] if self.query_fields else []

    @contextlib.contextmanager
    def _target(self) -> Iterator[tuple[RowTexts, np.ndarray, list[str]]]:
        """-> (texts of the target rows, the number of the query of each, the name of each query)."""
        texts = Column("characters", self.target_fields)
        with open_source(self.target_data, key="target_data") as source:
            table = scan(source, [texts, *([self.group] if self.group else [])])
            if not len(table):
                raise UserError(f"target_data={self.target_data} holds no rows")
            rows = RowTexts(source, table.rows, self.target_fields)
            if self.group is None:
                yield rows, np.arange(len(rows)), [str(number) for number in range(len(rows))]
                return
            query, first = numbered(table.columns[self.group])
            yield rows, query, group_names(source, table.rows.take(first), self.group)


def nearest_of_each_query(vectors: np.ndarray, targets: np.ndarray, query: np.ndarray, count: int) -> np.ndarray:
    """The largest cosine of each vector with the targets of each query, (n, queries); NaN for a vector of NaN.

    vectors: (n, width). targets: (m, width). query: (m,), numbers from 0, each of `count` at least once.
    """
    order = np.argsort(query, kind="stable")
    targets, first = targets[order], np.searchsorted(query[order], np.arange(count))
    result = np.full((len(vectors), count), np.nan)
    for begin in range(0, len(vectors), BLOCK):
        block = np.asarray(vectors[begin : begin + BLOCK])
        known = np.flatnonzero(~np.isnan(block[:, :1]).any(axis=1))
        cosines = similarities(block[known], targets)
        result[begin + known] = np.maximum.reduceat(cosines, first, axis=1)
    return result.round(DIGITS)
