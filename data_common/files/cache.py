"""The user's cache folder: what can be made again, each kind in a folder of its own."""

import contextlib
import os
import shutil
import time
from pathlib import Path

ABANDONED = 24 * 3600  # seconds after which an unfinished entry belongs to a killed run


def cache_folder(kind: str) -> Path:
    """A folder for entries of one kind and nothing else: in `DELT_CACHE`, or `delt` in the user's cache folder."""
    if given := os.environ.get("DELT_CACHE"):
        return Path(given, kind)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "delt", kind)


def trim(folder: Path, limit: int) -> None:
    """Remove what killed runs left, and the least recently used entries (folders) beyond `limit` bytes."""
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another run may remove it at the same time
            used = path.stat().st_mtime
            if path.name.startswith("."):
                if time.time() - used > ABANDONED:
                    shutil.rmtree(path, ignore_errors=True)
            else:
                entries.append((used, sum(file.stat().st_size for file in path.iterdir()), path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries, key=lambda entry: entry[0]):
        if total > limit:
            shutil.rmtree(path, ignore_errors=True)
            total -= size
