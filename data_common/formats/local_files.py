"""Files of rows on this disk, in the formats that can be turned into JSONL."""

import glob
from collections.abc import Iterable
from pathlib import Path, PurePath

from data_common.formats.opening import ARROW, FORMATS, suffix_of
from data_common.messages.errors import UserError

SHEETS = (".xlsx", ".xls", ".ods")
OF_DATASETS = ("state.json", "dataset_info.json")  # which `save_to_disk` puts beside its Arrow files


def is_local(path: str) -> bool:
    """Whether this is a path or pattern of files here, rather than an id on the hub."""
    named_like_one = path.startswith(("/", ".", "~")) or bool(suffix_of(path)) or path.lower().endswith(SHEETS)
    return named_like_one or Path(path).exists() or glob.has_magic(path)


def local_files(path: str) -> list[Path]:
    """The file, or those of a folder or glob, sorted by name.

    Raises: UserError where there is no file of a known kind, or there are several kinds; for a spreadsheet.
    """
    place = Path(path)
    if place.is_file():
        found = [place]
    elif place.is_dir():
        found = [file for file in place.iterdir() if not file.name.startswith(".")]  # copies of macOS leave such
    else:
        found = [Path(file) for file in glob.glob(path, recursive=True)]
    names = of_one_kind(path, [str(file) for file in found if file.is_file()])
    return list(map(Path, names))


def of_one_kind(path: str, found: Iterable[str]) -> list[str]:
    """Names of files of rows, sorted. Raises: UserError where there are none, or several kinds; for a spreadsheet."""
    if path.lower().endswith(SHEETS):
        cure = "save each sheet as .csv (soffice --headless --convert-to csv FILE), identifiers as text"
        raise UserError(f"{path} is a spreadsheet, which is not read: {cure}")
    names = sorted({name for name in found if suffix_of(name)}, key=PurePath)
    if any(suffix_of(name) == ARROW for name in names):
        names = [name for name in names if PurePath(name).name not in OF_DATASETS]
    if not names:
        raise UserError(f"{path}: no such file, or none in it that ends with {', '.join(FORMATS)}")
    suffixes = sorted({suffix_of(name) for name in names})
    if len(suffixes) > 1:
        raise UserError(f"{path} holds files of several kinds: {', '.join(suffixes)}")
    return names
