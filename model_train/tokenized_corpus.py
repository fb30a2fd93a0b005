"""The rows of a file as a cached token store, and their scores."""

import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from data_common.messages.errors import UserError
from data_common.models.special_tokens import FACT, KEY, Special, Spelled, warning
from data_common.models.token_cache import Corpus, Document, cached_corpus
from data_common.models.tokens import ENCODE_BATCH, batched
from data_common.parallel.processes import cores, threaded_map
from data_common.rows.json_line import BadRow, Number, long_integer
from data_common.rows.jsonl import Rows, Source, first_row, first_rows, raw_lines, read_blocks, read_rows
from model_train.training import BaseTraining, Encoded, TrainingRows

TRIED = 100  # rows that are encoded before the model is loaded


def corpus_of(training: BaseTraining, rows: TrainingRows, tokenizer) -> Corpus:
    """The documents of `rows` as the method reads them.

    Raises: UserError for a bad row, or where no row can be learned.
    """
    fields, identity = training.reading(rows.source)
    corpus = read_corpus(rows, tokenizer, fields, identity, training.encoder(tokenizer), training.reads_whole_rows)
    corpus.facts = training.told(identity) | corpus.facts
    return corpus


def read_corpus(
    rows: TrainingRows,
    tokenizer,
    fields: Mapping[str, Any],
    identity: Mapping[str, Any],
    encode: Callable[[Sequence[Any]], Sequence[Encoded | BadRow]],
    whole: bool = False,
) -> Corpus:
    """The usable rows as tokens, in their order; encoded in parallel and streaming, unless an earlier run did it.

    fields: name -> type, what is read of a row. identity: what the tokens depend on beside rows and tokenizer.
    encode: values of some rows -> for each its tokens, none where it is left out; or what is bad.
    whole: it takes (values, all fields) of each row instead.
    Raises: UserError at the first bad row, or where nothing is left to learn.
    """

    def documents(facts: dict[str, Any]) -> Iterator[Document]:
        usable = islice(read_rows(rows.source, fields, rows.on_bad_row, "tokenizing"), rows.max_rows)
        facts["rows"] = facts[FACT] = 0
        for batch, encoded in threaded_map(work, batched(usable, ENCODE_BATCH), min(8, cores())):
            for (offset, _, values), one in zip(batch, encoded, strict=True):
                facts["rows"] += 1
                facts[FACT] += spelled.first(values) is not None
                if isinstance(one, BadRow):
                    if rows.on_bad_row == "error":
                        raise UserError(f"{rows.source.place(offset)}: {one}{one.cure}")
                    rows.source.dropped[str(one)] += 1
                    continue
                for name in one.counted:
                    facts[name] = facts.get(name, 0) + 1
                yield from (Document(offset, *text) for text in one.texts)
        facts |= rows.source.counts()

    def work(batch: list) -> tuple[list, Sequence[Encoded | BadRow]]:
        return batch, encode(_for_encoder(rows.source, *zip(*batch, strict=True), whole))

    special: Special = "text" if tokenizer.split_special_tokens else "tokens"
    spelled = Spelled(tokenizer, special)
    reading = {"fields": list(fields), "on_bad_row": rows.on_bad_row, "max_rows": rows.max_rows, **identity}
    reading |= {KEY: special}
    corpus = cached_corpus(rows.source, rows.fingerprints, tokenizer, reading, documents)
    if not corpus.facts["rows"]:
        raise UserError(f"{rows.source.path} holds no rows")
    if not (corpus.lengths > 1).any():
        raise UserError(f"{rows.source.path}: no row has any text to learn")
    if message := warning(corpus.facts[FACT], corpus.facts["rows"], special):
        print(f"warning: {message}")
    return corpus


def _for_encoder(source: Source, starts: Sequence[int], ends: Sequence[int], values: Sequence[Any], whole: bool):
    """The values of some rows, with all fields of each where it is asked for whole rows."""
    if not whole:
        return values
    return list(zip(values, map(_all_fields, raw_lines(source, Rows(*map(np.array, (starts, ends))))), strict=True))


def _all_fields(line: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line)
    except msgspec.MsgspecError:  # NaN, say
        return json.loads(line, parse_int=long_integer)


def check_first(
    rows: TrainingRows,
    fields: Mapping[str, Any],
    encode: Callable[[Sequence[Any]], Sequence[Encoded | BadRow]] | None,
    whole: bool = False,
) -> None:
    """Raises UserError for a bad row among the first ones, as `read_corpus` would. encode: None = no tokenizer yet."""
    few = slice(0, min(TRIED, rows.max_rows or TRIED))
    start, end, values = (column[few] for column in first_rows(rows.source, fields, rows.on_bad_row))
    encoded = encode(_for_encoder(rows.source, start, end, values, whole)) if encode else ()
    for offset, one in zip(start, encoded, strict=False):
        if isinstance(one, BadRow) and rows.on_bad_row == "error":
            raise UserError(f"{rows.source.place(int(offset))}: {one}{one.cure}")


def has_field(row: Mapping[str, Any], field: str) -> bool:
    """Whether a row has a field, with a number or not; a dot steps into an object."""
    if field in row:
        return True
    head, _, rest = field.partition(".")
    return bool(rest) and isinstance(row.get(head), dict) and has_field(row[head], rest)


def row_scores(rows: TrainingRows, score_field: str | None, offsets: np.ndarray) -> np.ndarray | None:
    """Scores of the rows at these offsets in the source, (n,); None where the first row has no such field.

    offsets: ascending; nothing is read behind the last of them.
    Raises: UserError for a row without a score; where bad rows are dropped, its score is NaN.
    """
    if score_field is None or not has_field(first_row(rows.source, "drop")[1], score_field):
        return None
    field, starts, scores = {score_field: Number}, array("q"), array("d")
    for start, _, values in read_blocks(rows.source, field, "drop", "reading scores"):
        starts.frombytes(start.tobytes())
        scores.extend(values)
        if len(start) and start[-1] >= offsets[-1]:
            break
    found = np.full(len(offsets), np.nan)
    known = np.frombuffer(starts, np.int64)
    place = np.minimum(np.searchsorted(known, offsets), len(known) - 1)  # a row may have several texts
    there = known[place] == offsets
    found[there] = np.frombuffer(scores)[place[there]]
    if np.isnan(found).any() and rows.on_bad_row == "error":
        for _ in read_rows(rows.source, field):  # says which row, and why
            pass
    return found
