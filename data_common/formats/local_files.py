"""Files of rows on this disk, in the formats that can be turned into JSONL."""

import glob
from pathlib import Path

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
    if path.lower().endswith(SHEETS):
        cure = "save each sheet as .csv (soffice --headless --convert-to csv FILE), identifiers as text"
        raise UserError(f"{path} is a spreadsheet, which is not read: {cure}")
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
    if any(suffix_of(file.name) == ARROW for file in files):
        files = [file for file in files if file.name not in OF_DATASETS]
    suffixes = sorted({suffix_of(file.name) for file in files})
    if len(suffixes) > 1:
        raise UserError(f"{path} holds files of several kinds: {', '.join(suffixes)}")
    return files
