"""Rows of Parquet files as JSON lines, file by file: no schema of another file decides what a value becomes."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import msgspec
import pyarrow
import pyarrow.parquet

from data_common.formats.encoding import json_line
from data_common.formats.opening import HEAD, PARQUET, check_content
from data_common.messages.errors import UserError

BATCH = 2**24  # bytes that are converted at a time, about
BUFFER = 2**23  # bytes of a column that are read at a time
FAULTS = (ValueError, TypeError, OverflowError, KeyError, NotImplementedError, RecursionError, pyarrow.ArrowException)
Values = Callable[[pyarrow.Array], list]  # a column as Python values


def parquet_rows(file: BinaryIO, name: str, skip: int = 0) -> Iterator[bytes]:
    """One JSON object for each row after the first `skip`. A map is an object, JSON in a column of JSON a value.

    Raises: UserError with file, column and row for a value that cannot be had as JSON without loss; for a broken file.
    """
    check_content(name, file.read(HEAD), PARQUET)
    file.seek(0)
    try:
        yield from _rows(file, name, skip)
    except pyarrow.ArrowException as error:
        raise UserError(f"cannot read {name}: {' '.join(str(error).split())}") from error


def _rows(file: BinaryIO, name: str, skip: int) -> Iterator[bytes]:
    with _table(file, "ns") as table:
        groups, done = list(range(table.num_row_groups)), 0
        check_names(table.schema_arrow.names, name)
        while groups and done + (rows := table.metadata.row_group(groups[0]).num_rows) <= skip:
            done += rows
            del groups[0]
        size, old_times = _batch_size(table), _old_times(table)
        exact = table.iter_batches(size, groups, use_threads=False)
        others = _table(file, "us").iter_batches(size, groups, old_times, use_threads=False) if old_times else None
        for batch in exact:
            times = dict(zip(old_times, next(others).columns, strict=True)) if others is not None else {}
            yield from lines_of(batch, name, done, skip, times)
            done += len(batch)


def check_names(names: Sequence[str], name: str) -> None:
    """Raises UserError where two columns of a file are called the same."""
    if doubled := sorted({column for column in names if names.count(column) > 1}):
        raise UserError(f"{name} has more than one column called {', '.join(doubled)}")


def lines_of(
    batch: pyarrow.RecordBatch, name: str, done: int, skip: int, old_times: Mapping[str, pyarrow.Array] | None = None
) -> Iterator[bytes]:
    """The lines of some rows, but of the first `skip` of the file. done: rows of the file that are before them.

    old_times: columns whose values are wrong far from 1970, to the microsecond.
    Raises: UserError as `parquet_rows`.
    """
    columns = {column: _values(batch.column(column), f"{name}: column {column}", done) for column in batch.schema.names}
    for column, times in (old_times or {}).items():
        columns[column] = _wide_times(columns[column], times, f"{name}: column {column}", done)
    for number in range(max(0, skip - done), len(batch)):
        row = {column: values[number] for column, values in columns.items()}
        yield json_line(row, f"{name}, row {done + number + 1},")


def _table(file: BinaryIO, unit: str) -> pyarrow.parquet.ParquetFile:
    """unit: of the times of old files. Without threads and read-ahead, which would go on when the interpreter ends."""
    return pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER, coerce_int96_timestamp_unit=unit)


def _batch_size(table: pyarrow.parquet.ParquetFile) -> int:
    """In rows."""
    groups = (table.metadata.row_group(number) for number in range(table.num_row_groups))
    widest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=0)
    return max(1, min(1024, int(BATCH / max(1, widest))))


def _values(array: pyarrow.Array, what: str, done: int) -> list:
    """Raises: UserError with the row for the first value that Python cannot hold."""
    convert = _converter(array.type) or _plain
    try:
        return convert(array)
    except FAULTS:
        for number in range(len(array)):
            try:
                convert(array.slice(number, 1))
            except FAULTS as error:
                reason = " ".join(str(error).split())
                raise UserError(f"{what}, row {done + number + 1} cannot be written as JSON: {reason}") from None
        raise


def _plain(array: pyarrow.Array) -> list:
    return array.to_pylist(maps_as_pydicts="strict")


def _converter(kind: pyarrow.DataType) -> Values | None:
    """For what `to_pylist` would make something else of: JSON (text), times with nanoseconds (cut off)."""
    if isinstance(kind, pyarrow.JsonType):
        return lambda array: [None if text is None else _parsed(text) for text in array.to_pylist()]
    if kind == pyarrow.time64("ns"):
        return lambda array: array.cast(pyarrow.string()).to_pylist()
    if pyarrow.types.is_struct(kind):
        inner = {field.name: _converter(field.type) for field in kind}
        if len(inner) == kind.num_fields and any(inner.values()):
            return lambda array: _structs(array, inner)
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        convert = _converter(kind.value_type)
        return convert and (lambda array: [None if one.values is None else convert(one.values) for one in array])
    return None


def _structs(array: pyarrow.StructArray, inner: dict[str, Values | None]) -> list:
    columns = [(convert or _plain)(part) for convert, part in zip(inner.values(), array.flatten(), strict=True)]
    rows = zip(*columns, strict=True)
    return [
        dict(zip(inner, row, strict=True)) if valid else None
        for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)
    ]


def _parsed(text: str) -> msgspec.Raw:
    json.loads(text, parse_int=str)
    return msgspec.Raw(text.replace("\n", " ").replace("\r", " ").encode())


def _old_times(table: pyarrow.parquet.ParquetFile) -> list[str]:
    """Columns of 96-bit times, which hold more years than nanoseconds in 64 bits do: they would wrap around."""
    columns = (table.schema.column(number) for number in range(len(table.schema)))
    return [column.path for column in columns if column.physical_type == "INT96" and column.path == column.name]


def _wide_times(exact: Iterable[Any], times: pyarrow.Array, what: str, done: int) -> list:
    """exact: to the nanosecond, wrong where far from 1970. times: the same ones to the microsecond, all right."""
    pairs = zip(exact, _values(times, what, done), strict=True)
    return [fine if fine is None or fine.to_pydatetime(warn=False) == coarse else coarse for fine, coarse in pairs]
