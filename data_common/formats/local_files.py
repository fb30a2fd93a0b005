"""Files of rows on this disk, in the formats that can be turned into JSONL."""

import glob
from pathlib import Path

from data_common.formats.opening import FORMATS, suffix_of
from data_common.messages.errors import UserError


def is_local(path: str) -> bool:
    """Whether this is a path or pattern of files here, rather than an id on the hub."""
    named_like_one = path.startswith(("/", ".", "~")) or bool(suffix_of(path))
    return named_like_one or Path(path).exists() or glob.has_magic(path)


def local_files(path: str) -> list[Path]:
    """The file, or those of a folder or glob, sorted by name.

    Raises: UserError where there is no file of a known kind, or there are several kinds.
    """
    place = Path(path)
    if place.is_file():
        found = [place]
    elif place.is_dir():
        found = [file for file in place.iterdir() if not file.name.startswith(".")]  # copies of macOS leave such
    else:
        found = [Path(file) for file in glob.glob(path, recursive=True)]
    files = sorted({file for file in found if file.is_file() and suffix_of(file.name)})
    if not files:
        raise UserError(f"{path}: no such file, or none in it that ends with {', '.join(FORMATS)}")
    suffixes = sorted({suffix_of(file.name) for file in files})
    if len(suffixes) > 1:
        raise UserError(f"{path} holds files of several kinds: {', '.join(suffixes)}")
    return files
