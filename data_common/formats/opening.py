"""Files of rows as plain bytes: opened here or on the hub, decompressed, and told apart by what they begin with."""

import bz2
import contextlib
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from data_common.messages.errors import UserError

BLOCK = 2**18  # bytes decompressed at a time
HEAD = 512  # bytes by which a kind is known
HUB = "hf://"
PARQUET, ARROW = ".parquet", ".arrow"
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)


class Content(NamedTuple):
    """What a file is, by its first bytes. cure: what to do where it has another name; empty: another name."""

    begins: re.Pattern[bytes]
    words: str
    suffix: str = ""
    cure: str = ""


CONTENTS = (
    Content(re.compile(rb"\x1f\x8b"), "compressed by gzip", ".gz"),
    Content(re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), "compressed by bzip2", ".bz2"),
    Content(re.compile(rb"\xfd7zXZ\0"), "compressed by xz", ".xz"),
    Content(re.compile(rb"(?s)\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), "compressed by zstd", ".zst"),
    Content(re.compile(rb"\x04\x22\x4d\x18"), "compressed by lz4", cure="decompress it"),
    Content(re.compile(rb"PK\x03\x04"), "a zip archive", cure="unpack it"),
    Content(re.compile(rb"PAR[1E]"), "a Parquet file", PARQUET),
    Content(re.compile(rb"ARROW1\0|\xff{4}"), "an Arrow file", ARROW),
    Content(re.compile(rb"FEA1"), "a Feather file of the first version", cure="write it as Parquet"),
    Content(
        re.compile(rb"version https://git-lfs"), "a Git LFS pointer, not the file itself", cure="git lfs pull gets it"
    ),
    Content(re.compile(rb"\xff\xfe|\xfe\xff"), "UTF-16 text", cure="iconv -f utf-16 -t utf-8 makes UTF-8 of it"),
    Content(re.compile(rb"(?i)\s*<(!doctype|html)"), "a page of HTML", cure="download the file itself"),
)
TABLE_WORDS = {PARQUET: "no Parquet file", ARROW: "no Arrow file"}
COMPRESSIONS = tuple(one.suffix for one in CONTENTS if one.words.startswith("compressed") and one.suffix)


FORMATS = {".jsonl": "lines", ".ndjson": "lines", ".json": "json", ".csv": "csv", ".tsv": "csv"}
TABLES = {PARQUET: "parquet", ARROW: "arrow", ".feather": "arrow"}  # which are compressed inside
FORMATS |= TABLES


def compression_of(name: str) -> str:
    """The last suffix of a name, where it stands for a compression."""
    return next((suffix for suffix in COMPRESSIONS if name.endswith(suffix)), "")


def suffix_of(name: str) -> str:
    """Of FORMATS, by the name of a file, which may be compressed; empty for others."""
    plain = name.removesuffix(compression_of(name))
    found = next((suffix for suffix in FORMATS if plain.endswith(suffix)), "")
    return "" if found in TABLES and plain != name else found


def format_of(name: str) -> str:
    """How rows are spelled in a file of this name; empty for names of others."""
    return FORMATS.get(suffix_of(name), "")


def check_content(name: str, head: bytes, suffix: str = "") -> None:
    """Raises UserError where a file does not begin as one of its kind. suffix: of CONTENTS; empty for text."""
    plain = Path(name).name.removesuffix(suffix)
    found = next((content for content in CONTENTS if content.begins.match(head)), None)
    if not head or (found and found.suffix) == (suffix or None):
        return
    if found is None:
        kind = TABLE_WORDS.get(suffix, f"not compressed (if it is text, call it {plain})")
        raise UserError(f"cannot read {name}: it is {kind}")
    raise UserError(f"{name} is {found.words}: {found.cure or f'call it {plain}{found.suffix}'}")


@contextlib.contextmanager
def opened(name: str, **options: Any) -> Iterator[BinaryIO]:
    """The bytes of a path, or of a file in a store (hf://..., s3://...), as they are. options: of the store's files."""
    if "://" not in name:
        with open(name, "rb") as file:
            yield file
        return
    from data_common.formats.stores import file_system

    files, place = file_system(name)
    with files.open(place, "rb", **options) as file:
        yield cast(BinaryIO, file)


@contextlib.contextmanager
def opened_plain(name: str) -> Iterator[io.BufferedReader]:
    """`opened`, decompressed as its name says. Raises: UserError where the file is of another kind than its name."""
    with opened(name) as file:
        suffix = compression_of(name)
        head = file.read(HEAD)
        file.seek(0)
        check_content(name, head, suffix)
        if not suffix:
            with io.BufferedReader(cast(io.RawIOBase, file), BLOCK) as plain:
                yield plain
            return
        with io.BufferedReader(UNPACK[suffix](file), BLOCK) as plain:
            check_content(name.removesuffix(suffix), plain.peek(HEAD)[:HEAD])
            yield plain


class _Blocks(io.RawIOBase):
    """An iterator of bytes as a file."""

    def __init__(self, blocks: Iterator[bytes]):
        super().__init__()
        self.blocks, self.block = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.block:
            block = next(self.blocks, None)
            if block is None:
                return 0
            self.block = memoryview(block)
        count = min(len(buffer), len(self.block))
        buffer[:count], self.block = self.block[:count], self.block[count:]
        return count


def _unpack_zstd(file: BinaryIO) -> Iterator[bytes]:
    """The content of all zstd frames. Raises: EOFError where one is damaged or ends early, as after a broken copy."""
    import zstandard

    frame = None
    while block := file.read(BLOCK):
        while block:
            # the longest window there is (zstd --long=31): memory is used only as far as there is content
            frame = frame or zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()
            try:
                yield frame.decompress(block)
            except zstandard.ZstdError as error:
                raise EOFError(str(error)) from error
            block = frame.unused_data
            frame = None if frame.eof else frame
    if frame:
        raise EOFError("the compressed file ended before its last frame did")


UNPACK: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": lambda file: _Blocks(_unpack_zstd(file)),
}
