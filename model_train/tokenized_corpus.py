"""The rows of a file as a cached token store, their scores and weights."""

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
from data_common.rows.json_line import BadRow, Number, Weight, long_integer
from data_common.rows.jsonl import Rows, first_row, first_rows, raw_lines, read_blocks, read_rows
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
        usable = islice(read_rows(rows.source, wanted, rows.on_bad_row, "tokenizing"), rows.max_rows)
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
        return batch, encode(_for_encoder(rows, *zip(*batch, strict=True), whole))

    wanted = _with_weight(rows, fields)
    special: Special = "text" if tokenizer.split_special_tokens else "tokens"
    spelled = Spelled(tokenizer, special)
    reading = {"fields": list(wanted), "on_bad_row": rows.on_bad_row, "max_rows": rows.max_rows, **identity}
    reading |= {KEY: special}
    corpus = cached_corpus(rows.source, rows.fingerprints, tokenizer, reading, documents)
    if not corpus.facts["rows"]:
        raise UserError(f"{rows.source.path} holds no rows")
    if not (corpus.lengths > 1).any():
        raise UserError(f"{rows.source.path}: no row has any text to learn")
    if message := warning(corpus.facts[FACT], corpus.facts["rows"], special):
        print(f"warning: {message}")
    return corpus


def _with_weight(rows: TrainingRows, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What is read of a row, its weight last. Raises: UserError where the weight is what is learned."""
    if rows.weight_field in fields:
        raise UserError(f"weight_field={rows.weight_field} is what is learned of a row, not its weight")
    return dict(fields) | ({} if rows.weight_field is None else {rows.weight_field: Weight})


def _for_encoder(rows: TrainingRows, starts: Sequence[int], ends: Sequence[int], values: Sequence[Any], whole: bool):
    """The values of some rows without their weights, with all fields of each where it is asked for whole rows."""
    if rows.weight_field is not None:
        values = [one[0] if len(one) == 2 else one[:-1] for one in values]
    if not whole:
        return values
    lines = raw_lines(rows.source, Rows(*map(np.array, (starts, ends))))
    return [(one, _all_fields(line, rows.weight_field)) for one, line in zip(values, lines, strict=True)]


def _all_fields(line: bytes, but: str | None) -> dict[str, Any]:
    try:
        row = msgspec.json.decode(line)
    except msgspec.MsgspecError:  # NaN, say
        row = json.loads(line, parse_int=long_integer)
    row.pop(but, None)
    return row


def check_first(
    rows: TrainingRows,
    fields: Mapping[str, Any],
    encode: Callable[[Sequence[Any]], Sequence[Encoded | BadRow]] | None,
    whole: bool = False,
) -> None:
    """Raises UserError for a bad row among the first ones, as `read_corpus` would. encode: None = no tokenizer yet."""
    few, fields = slice(0, min(TRIED, rows.max_rows or TRIED)), _with_weight(rows, fields)
    start, end, values = (column[few] for column in first_rows(rows.source, fields, rows.on_bad_row))
    encoded = encode(_for_encoder(rows, start, end, values, whole)) if encode else ()
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
    found = _numbers_at(rows, score_field, offsets, "reading scores")
    if np.isnan(found).any() and rows.on_bad_row == "error":
        for _ in read_rows(rows.source, {score_field: Number}):  # says which row, and why
            pass
    return found


def row_weights(rows: TrainingRows, offsets: np.ndarray) -> np.ndarray | None:
    """Weights of the rows at these offsets, (n,), as `row_scores`; None where all weigh the same.

    Raises: UserError where all of them are 0.
    """
    if rows.weight_field is None:
        return None
    weights = _numbers_at(rows, rows.weight_field, offsets, "reading weights")
    if not weights.any():
        raise UserError(f"{rows.source.path}: {rows.weight_field} is 0 in every row: nothing would be learned")
    return weights


def _numbers_at(rows: TrainingRows, field: str, offsets: np.ndarray, progress: str) -> np.ndarray:
    """A field of the rows at these offsets, (n,); NaN where it is no number."""
    starts, numbers = array("q"), array("d")
    for start, _, values in read_blocks(rows.source, {field: Number}, "drop", progress):
        starts.frombytes(start.tobytes())
        numbers.extend(values)
        if len(start) and start[-1] >= offsets[-1]:
            break
    found = np.full(len(offsets), np.nan)
    known = np.frombuffer(starts, np.int64)
    place = np.minimum(np.searchsorted(known, offsets), len(known) - 1)  # a row may have several texts
    there = known[place] == offsets
    found[there] = np.frombuffer(numbers)[place[there]]
    return found
