"""Files of rows on this disk, in the formats that can be turned into JSONL."""

import glob
from pathlib import Path

from common.errors import UserError
from common.shards import SUFFIXES, TABLES

KINDS = {".json": "json"} | TABLES | dict.fromkeys(SUFFIXES, "text")


def is_local(path: str) -> bool:
    """Whether this is a path or pattern of files here, rather than an id on the hub."""
    named_like_one = path.startswith(("/", ".", "~")) or bool(kind_of(Path(path)))
    return named_like_one or Path(path).exists() or glob.has_magic(path)


def local_files(path: str) -> tuple[list[Path], str]:
    """-> (the file, or those of a folder or glob, sorted by name; their kind, a builder of `datasets`).

    Raises: UserError where there are none of a known kind, or of several.
    """
    place = Path(path)
    found = list(place.iterdir()) if place.is_dir() else [place, *map(Path, glob.glob(path, recursive=True))]
    files = sorted({file for file in found if file.is_file() and kind_of(file)})
    if not files:
        raise UserError(f"{path}: no such file, or none in it that ends with {', '.join(KINDS)}")
    suffixes = {".jsonl" if kind_of(file) == "text" else file.suffix for file in files}
    if len(suffixes) > 1:
        raise UserError(f"{path} holds files of several kinds: {', '.join(sorted(suffixes))}")
    return files, kind_of(files[0])


def kind_of(file: Path) -> str:
    """Empty for an unknown kind."""
    return next((kind for suffix, kind in KINDS.items() if file.name.endswith(suffix)), "")
