"""Task YAMLs of the user: found, checked with their data, and made independent of the working folder.

What in them could run code is listed, and the lm-eval of a call that allows none never reads these files: it gets their
values, which hold no code.
"""

import difflib
import functools
import glob
import importlib.util
import json
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from data_common.messages.errors import UserError
from data_common.rows.jsonl import first_row, first_rows, open_source, read_rows
from data_common.rows.shards import SUFFIXES

SPECIFICATIONS = (".yaml", ".yml")
HIDDEN = ("__pycache__", ".ipynb_checkpoints")
COLUMN_KEYS = ("doc_to_text", "doc_to_target", "doc_to_choice")  # their value may be the name of a column
PLACES = ("dataset_path", "dataset_kwargs")  # may hold paths that are relative to the file
Value = str | int | float | bool | list | dict  # of a column: all that JSON has but null
FORMATS = ["arrow", "csv", "json", "pandas", "parquet", "sql", "text", "xml"]  # of data, by the names of `datasets`
CODE_FORMATS = ("pandas", "iceberg")  # of data: pickles, and tables that name classes to import
CODE_OPTIONS = ("custom_generate", "trust_remote_code")  # of generation_kwargs
# What PyYAML raises for a broken file, and for values such as 2020-13-45 or !!bool x
BROKEN = (OSError, yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """Reads task YAMLs without running their code: `!function` (and any other tag) gives None, and is listed."""

    def __init__(self, text: str):
        super().__init__(text)
        self.tags: list[str] = []  # "LINE: !TAG VALUE"


def _tag(loader: _Loader, suffix: str, node: yaml.Node) -> None:
    value = f" {node.value}" if isinstance(node.value, str) else ""
    loader.tags.append(f"{node.start_mark.line + 1}: !{suffix}{value}")


_Loader.add_multi_constructor("!", _tag)


@dataclass(frozen=True)
class Specification:
    """A task YAML, with what it includes."""

    files: tuple[Path, ...]  # its own first
    config: dict[str, Any]  # with the includes merged and data files absolute; own keys win, as in lm-eval
    own: dict[str, Any] = field(default_factory=dict)  # what of that was set last by a file that is not lm-eval's
    stock: tuple[Path, ...] = ()  # the files of lm-eval that it includes
    code: tuple[str, ...] = ()  # what in files that are not lm-eval's could run Python code, with its place
    unsafe: bool = False  # whether a file says that the task executes what the model writes


@dataclass(frozen=True)
class LocalTask:
    """A task that a YAML of the user describes."""

    name: str
    specification: Specification
    changes: Mapping[str, Any] = field(default_factory=dict)  # of its settings, by the group that it is in

    @property
    def files(self) -> tuple[Path, ...]:
        """Its YAML, and those that it includes."""
        return self.specification.files

    @property
    def config(self) -> dict[str, Any]:
        """Its YAML, with the includes merged and data files absolute, and what a group changes."""
        return {**self.specification.config, **self.changes}

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
        options = self.config.get("dataset_kwargs") or {}
        folders = [place for place in (options.get("data_dir"), self.config.get("dataset_path")) if _is_folder(place)]
        files = [str(file) for folder in folders for file in sorted(Path(folder).rglob("*")) if file.is_file()]
        for pattern in _strings(options.get("data_files")):
            if "://" in pattern:
                continue
            found = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))
            if not found:
                raise UserError(f"no data file {pattern} ({self.path})")
            files += found
        return files

    def code(self) -> list[str]:
        """What in its files, or named there, could run Python code that does not come with lm-eval."""
        config, found = self.config, list(self.specification.code)
        if (place := config.get("dataset_path")) in CODE_FORMATS:
            found.append(f"{self.path}: dataset_path: {place}")
        if str(config.get("use_prompt")).startswith("promptsource"):  # renders templates itself
            found.append(f"{self.path}: use_prompt: {config['use_prompt']}")
        options = config.get("generation_kwargs")
        named = [name for name in CODE_OPTIONS if isinstance(options, dict) and name in options]
        return found + [f"{self.path}: generation_kwargs: {name}" for name in named]

    def foreign_metrics(self, known: Container[str]) -> list[str]:
        """The metrics of its files that lm-eval would load as Python code from the hub, or from a folder here.

        known: names of the metrics that come with lm-eval.
        """
        if "process_results" in self.config.keys() - self.specification.own.keys():
            return []  # a function of lm-eval's gives the values, by whatever names
        metrics = self.config.get("metric_list") or []
        metrics = [metric for metric in metrics if isinstance(metric, dict) and isinstance(metric.get("metric"), str)]
        return [one["metric"] for one in metrics if one.get("hf_evaluate") is True or one["metric"] not in known]

    def prepare(self, folder: Path, allow_code: bool = False) -> dict[str, Any]:
        """The content of a task YAML like this one, with absolute data files; `datasets` may write to `folder`.

        lm-eval resolves relative data files against the working folder. allow_code: the YAML is included, so that
        its `!function` entries keep their place; else only its values are given, and what it includes of lm-eval's own.
        Raises: UserError as `check_data`.
        """
        self.check_data()
        known = self.specification
        content: dict[str, Any] = {"include": str(self.path)}
        if not allow_code:
            content = {"include": list(map(str, known.stock))} if known.stock else {}
            content |= {key: value for key, value in known.own.items() if key not in ("task_list", "group", "tag")}
        absolute = {key: self.config[key] for key in PLACES if key in self.config}
        if self.data_files() and "custom_dataset" not in self.config:
            # A cache that outlives the call knows a file by its time of change, which copies share.
            absolute["dataset_kwargs"] = {"cache_dir": str(folder / "cache"), **(absolute.get("dataset_kwargs") or {})}
        return content | {"task": self.name} | absolute | self.changes

    def check_data(self) -> None:
        """Check that the data files are there and, for JSON lines, that every row has the columns of the prompt.

        Raises: UserError for a missing or empty file, and `FILE:LINE: reason` for a bad row.
        """
        for file in self._json_lines():
            with open_source(file) as source:
                if not sum(1 for _ in read_rows(source, self._columns())):
                    raise UserError(f"{file} holds no rows")

    def look(self) -> None:
        """`check_data` of the first rows. Raises: as that."""
        for file in self._json_lines():
            with open_source(file, whole=False) as source:
                first_rows(source, self._columns())

    def _json_lines(self) -> list[str]:
        files = self.data_files()
        return [file for file in files if self.config.get("dataset_path") == "json" and file.endswith(SUFFIXES)]

    def _columns(self) -> dict[str, Any]:
        """What every row must have, by name; nothing where code makes the rows that the prompt sees."""
        made_by_code = "process_docs" in self.config or "custom_dataset" in self.config
        values = {} if made_by_code else {key: self.config.get(key) for key in COLUMN_KEYS if key not in self.literals}
        return {value: Value for value in values.values() if isinstance(value, str) and value.isidentifier()}

    @functools.cached_property
    def literals(self) -> dict[str, str]:
        """`doc_to_text` and `doc_to_target` where they are no column, but what is asked or answered itself.

        Raises: UserError where one is nearly a column.
        """
        choices = self.config.get("doc_to_choice")
        choices = list(choices.values()) if isinstance(choices, dict) else choices
        words = {key: self.config.get(key) for key in ("doc_to_text", "doc_to_target")}
        words = {key: word for key, word in words.items() if isinstance(word, str) and word.isidentifier()}
        if isinstance(choices, list) and words.get("doc_to_target") not in choices:
            words.pop("doc_to_target", None)
        columns: list[str] = []
        for file in self._json_lines() if words else ():
            with open_source(file, whole=False) as source:
                columns += first_row(source)[1]
        found = {key: word for key, word in words.items() if columns and word not in columns}
        for key, word in found.items():
            if close := difflib.get_close_matches(word, columns, n=1):
                raise UserError(f"{self.path}: {key}: {word} is no column; did you mean '{close[0]}'?")
        return found


def split(tasks: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files and folders among `tasks`, and the names of tasks of lm-eval."""
    local = [task for task in tasks if "/" in task or task.endswith(SPECIFICATIONS) or Path(task).exists()]
    return local, [task for task in tasks if task not in local]


def yaml_files(place: Path) -> list[Path]:
    """The YAMLs of a folder and those below it; a file stands for itself."""
    if not place.is_dir():
        return [place]
    found = (path for ending in SPECIFICATIONS for path in place.rglob(f"*{ending}"))
    return sorted(path for path in found if not set(HIDDEN) & set(path.parts))


@functools.cache
def tasks_folder() -> Path:
    """Where lm-eval keeps its task YAMLs, found without importing it. Raises: ModuleNotFoundError."""
    found = importlib.util.find_spec("lm_eval")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'lm_eval'")
    return Path(found.submodule_search_locations[0]).resolve() / "tasks"


def read_specification(path: Path, including: tuple[Path, ...] = ()) -> Specification:
    """A task YAML with all that it includes. Raises: UserError for a missing or broken file."""
    path = path.resolve()
    if path in including:
        raise UserError(f"{path} includes itself")
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        content = loader.get_single_data()
        json.dumps(content, default=str)  # a value may hold itself
    except BROKEN as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"cannot read the task file {path}: {reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `key: value` lines of a task")
    _make_absolute(content, path.parent)
    included = [
        read_specification(path.parent / name, (*including, path)) for name in _strings(content.pop("include", None))
    ]
    is_stock = tasks_folder() in path.parents
    tags = () if is_stock else tuple(f"{path}:{tag}" for tag in loader.tags)
    return Specification(
        files=(path, *(file for one in included for file in one.files)),
        config=_merged([*(one.config for one in included), content]),
        own={} if is_stock else _last_set(included) | content,
        stock=(path,) if is_stock else tuple(file for one in included for file in one.stock),
        code=tags + tuple(found for one in included for found in one.code),
        unsafe=bool(content.get("unsafe_code")) or any(one.unsafe for one in included),
    )


def _merged(contents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for content in contents for key, value in content.items()}


def _last_set(included: Sequence[Specification]) -> dict[str, Any]:
    """The keys whose value, when all are merged in their order, is not from a file of lm-eval's."""
    own: dict[str, Any] = {}
    for one in included:
        own = {key: value for key, value in own.items() if key not in one.config} | one.own
    return own


def _make_absolute(content: dict[str, Any], folder: Path) -> None:
    """Change what a task YAML says of its data to absolute paths; it is relative to the folder of the YAML."""
    place, options = content.get("dataset_path"), content.get("dataset_kwargs")
    if isinstance(place, str) and place not in FORMATS and (folder / place).is_dir():
        content["dataset_path"] = str(folder / place)
    if not isinstance(options, dict):
        return
    if "data_files" in options:
        options["data_files"] = _absolute(options["data_files"], folder)
    if isinstance(options.get("data_dir"), str) and (folder / options["data_dir"]).is_dir():
        options["data_dir"] = str(folder / options["data_dir"])


def _absolute(files: Any, folder: Path) -> Any:
    if isinstance(files, dict):
        return {split: _absolute(value, folder) for split, value in files.items()}
    if isinstance(files, list):
        return [_absolute(value, folder) for value in files]
    return files if files is None or "://" in files else str(folder / files)


def _is_folder(place: Any) -> bool:
    return isinstance(place, str) and os.path.isabs(place) and os.path.isdir(place)


def _strings(value: Any) -> Iterator[str]:
    """All strings in a string, list or dict."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
