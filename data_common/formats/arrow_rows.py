"""Rows of Arrow files as JSON lines: IPC files (Feather) and streams, as the library `datasets` keeps its own sets."""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow
import pyarrow.ipc

from data_common.formats.opening import ARROW, HEAD, check_content
from data_common.formats.parquet_rows import check_names, lines_of
from data_common.messages.errors import UserError

ROWS = 1024  # that are converted at a time


def arrow_rows(file: BinaryIO, name: str, skip: int = 0) -> Iterator[bytes]:
    """One JSON object for each row after the first `skip`, as of Parquet files.

    Raises: UserError with file, column and row for a value that cannot be had as JSON without loss; for a broken file.
    """
    check_content(name, head := file.read(HEAD), ARROW)
    file.seek(0)
    try:
        done = 0
        for batch in _batches(file, is_file=head.startswith(b"ARROW1")):
            check_names(batch.schema.names, name)
            for start in range(0, len(batch), ROWS):
                part = batch.slice(start, ROWS)
                if done + len(part) > skip:
                    yield from lines_of(part, name, done, skip)
                done += len(part)
    except pyarrow.ArrowException as error:
        raise UserError(f"cannot read {name}: {' '.join(str(error).split())}") from error


def _batches(file: BinaryIO, is_file: bool) -> Iterator[pyarrow.RecordBatch]:
    if not is_file:
        yield from pyarrow.ipc.open_stream(file)
        return
    reader = pyarrow.ipc.open_file(file)
    yield from map(reader.get_batch, range(reader.num_record_batches))
