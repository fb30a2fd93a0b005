"""Task YAMLs of the user: found, checked with their data, and made independent of the working folder."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from common.jsonl import open_source, read_rows
from common.shards import SUFFIXES

SPECIFICATIONS = (".yaml", ".yml")
HIDDEN = ("__pycache__", ".ipynb_checkpoints")
COLUMN_KEYS = ("doc_to_text", "doc_to_target", "doc_to_choice")  # their value may be the name of a column
Value = str | int | float | bool | list | dict  # of a column: all that JSON has but null


class _Loader(yaml.SafeLoader):
    """Reads task YAMLs without running their code: `!function` (and any other tag) gives None."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


@dataclass(frozen=True)
class LocalTask:
    """A task that a YAML of the user describes."""

    name: str
    files: tuple[Path, ...]  # its YAML, and those that it includes
    config: dict[str, Any]  # with the includes merged and data files absolute

    @property
    def path(self) -> Path:
        """Its YAML."""
        return self.files[0]

    def code_files(self) -> list[Path]:
        """The Python files beside its YAMLs, which hold the functions of `!function`."""
        return sorted({code for file in self.files for code in file.parent.glob("*.py")})

    def data_files(self) -> list[str]:
        """Absolute paths of the data files; addresses on the network are left out.

        Raises: UserError where one is missing.
        """
        files = []
        for pattern in _strings((self.config.get("dataset_kwargs") or {}).get("data_files")):
            if "://" in pattern:
                continue
            found = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))
            if not found:
                raise UserError(f"no data file {pattern} ({self.path})")
            files += found
        return files

    def prepare(self, folder: Path) -> dict[str, Any]:
        """The content of a task YAML that includes this one, with absolute data files; nothing goes to `folder`.

        lm-eval resolves relative data files against the working folder; `!function` entries of an included YAML
        keep their place. Raises: UserError as `check_data`.
        """
        self.check_data()
        content: dict[str, Any] = {"include": str(self.path)}
        return content | ({"dataset_kwargs": self.config["dataset_kwargs"]} if self.data_files() else {})

    def check_data(self) -> None:
        """Check that the data files are there and, for JSON lines, that every row has the columns of the prompt.

        Raises: UserError for a missing or empty file, and `FILE:LINE: reason` for a bad row.
        """
        made_by_code = "process_docs" in self.config or "custom_dataset" in self.config
        values = [] if made_by_code else [self.config.get(key) for key in COLUMN_KEYS]
        columns = {value: Value for value in values if isinstance(value, str) and value.isidentifier()}
        for file in self.data_files():
            if self.config.get("dataset_path") == "json" and file.endswith(SUFFIXES):
                with open_source(file) as source:
                    if not sum(1 for _ in read_rows(source, columns)):
                        raise UserError(f"{file} holds no rows")


def split(tasks: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files and folders among `tasks`, and the names of tasks of lm-eval."""
    local = [task for task in tasks if "/" in task or task.endswith(SPECIFICATIONS) or Path(task).exists()]
    return local, [task for task in tasks if task not in local]


def read_tasks(place: str) -> list[LocalTask]:
    """The tasks of a task YAML, or of a folder that holds such; YAMLs without `task: name` are parts or groups of them.

    Raises: UserError for a missing or broken file, and a folder without tasks.
    """
    read = [read_specification(path) for path in _specifications(Path(place))]
    found = [LocalTask(config["task"], files, config) for files, config in read if isinstance(config.get("task"), str)]
    if not found:
        raise UserError(f"{place} holds no task YAML (with a line `task: name`)")
    return found


def _specifications(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    found = (path for ending in SPECIFICATIONS for path in place.rglob(f"*{ending}"))
    return sorted(path for path in found if not set(HIDDEN) & set(path.parts))


def read_specification(path: Path, including: tuple[Path, ...] = ()) -> tuple[tuple[Path, ...], dict[str, Any]]:
    """All files of a task YAML, its own first; its content, with what it includes (own keys win, as in lm-eval).

    Raises: UserError for a missing or broken file.
    """
    path = path.resolve()
    if path in including:
        raise UserError(f"{path} includes itself")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"cannot read the task file {path}: {reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `key: value` lines of a task")
    options = content.get("dataset_kwargs")
    if isinstance(options, dict) and "data_files" in options:
        options["data_files"] = _absolute(options["data_files"], path.parent)
    files, merged = (path,), {}
    for name in _strings(content.pop("include", None)):
        included_files, included = read_specification(path.parent / name, (*including, path))
        files, merged = files + included_files, merged | included
    return files, merged | content


def _absolute(files: Any, folder: Path) -> Any:
    if isinstance(files, dict):
        return {split: _absolute(value, folder) for split, value in files.items()}
    if isinstance(files, list):
        return [_absolute(value, folder) for value in files]
    return files if files is None or "://" in files else str(folder / files)


def _strings(value: Any) -> Iterator[str]:
    """All strings in a string, list or dict."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
