"""A file of JSON lines as a Parquet file: one type a column, text stays text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from data_common.messages.errors import UserError
from data_common.rows.json_line import long_integer

BLOCK = 2**24  # bytes of lines that are in memory at a time


def write_parquet(lines: Path, target: Path) -> None:
    """The rows of `lines` in their order; a field that a row lacks is null. The lines are read twice.

    Raises: UserError for a line that is no object, and for a field that has values of several types.
    """
    schema = None
    for first, rows in _blocks(lines):
        found = _table(rows, None, first).schema
        try:
            schema = found if schema is None else pyarrow.unify_schemas([schema, found], promote_options="permissive")
        except pyarrow.ArrowException as error:
            raise UserError(f"rows up to {first + len(rows):,} have fields of several types: {_brief(error)}") from None
    if schema is None:
        raise UserError("there are no rows: a Parquet file would have no columns")
    try:
        with pyarrow.parquet.ParquetWriter(target, schema, compression="zstd") as writer:
            for first, rows in _blocks(lines):
                writer.write_table(_table(rows, schema, first))
    except pyarrow.ArrowNotImplementedError as error:
        raise UserError(f"Parquet cannot hold these rows: {_brief(error)}") from None


def _table(rows: list[dict[str, Any]], schema: pyarrow.Schema | None, first: int) -> pyarrow.Table:
    """first: rows of the file before these."""
    names = schema.names if schema is not None else list(dict.fromkeys(name for row in rows for name in row))
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns.append(pyarrow.array(values, schema.field(name).type if schema is not None else None))
        except (pyarrow.ArrowException, OverflowError, TypeError) as error:
            place = f"rows {first + 1:,} to {first + len(rows):,}"
            raise UserError(
                f"{name} cannot be a column of Parquet, which has one type: {place}: {_brief(error)}"
            ) from None
    return pyarrow.table(columns, schema=schema) if schema is not None else pyarrow.table(columns, names=names)


def _blocks(lines: Path) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(rows before, rows), some at a time."""
    first, rows, size = 0, [], 0
    with open(lines, "rb") as file:
        for line in file:
            rows.append(_row(line, first + len(rows)))
            size += len(line)
            if size > BLOCK:
                yield first, rows
                first, rows, size = first + len(rows), [], 0
    if rows:
        yield first, rows


def _row(line: bytes, before: int) -> dict[str, Any]:
    try:
        row = json.loads(line, parse_int=long_integer)
    except (ValueError, RecursionError) as error:
        raise UserError(f"row {before + 1:,} is broken JSON, which Parquet cannot hold: {error}") from None
    if not isinstance(row, dict):
        raise UserError(f"row {before + 1:,} is no object: Parquet holds rows of columns")
    return row


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
