"""Tasks that come with lm-eval, read from the hub or from files in a folder: found, checked, written as task YAMLs."""

import json
import re
from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data_common.messages.errors import UserError
from data_common.rows.jsonl import Source, first_row, open_source, read_rows
from data_common.rows.shards import SUFFIXES, stem
from model_eval.lm_evaluation_harness.converters import SHAPES, Shape
from model_eval.lm_evaluation_harness.task_files import Specification, read_specification, tasks_folder

SPECIFICATIONS = {  # where the task YAML of a benchmark lies in the folder of lm-eval's tasks
    "hellaswag": "hellaswag/hellaswag.yaml",
    "sciq": "sciq/sciq.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "piqa": "piqa/piqa.yaml",
    "winogrande": "winogrande/default.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "mathqa": "mathqa/mathqa.yaml",
    "gpqa_diamond_zeroshot": "gpqa/zeroshot/gpqa_diamond_zeroshot.yaml",
    "humaneval": "humaneval/humaneval.yaml",
    "mbpp": "mbpp/mbpp.yaml",
}
OTHER_NAMES = {  # of the files of a benchmark
    "lambada_openai": ("lambada",),
    "gpqa_diamond_zeroshot": ("gpqa_diamond",),
    "mathqa": ("math_qa",),
    "openbookqa": ("openbook_qa",),
}
SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
SPLIT_KEYS = ("training_split", "validation_split", "test_split", "fewshot_split")


@dataclass(frozen=True)
class StockTask:
    """A benchmark of SPECIFICATIONS."""

    name: str
    data_dir: str | None  # its files are there; None: on the hub
    num_fewshot: int | None  # as asked for

    @property
    def files(self) -> tuple[Path, ...]:
        """Its YAML, and those that it includes."""
        return self.specification.files

    @property
    def config(self) -> dict[str, Any]:
        """Its YAML with the includes merged."""
        return self.specification.config

    @cached_property
    def specification(self) -> Specification:
        """As lm-eval has it."""
        return read_specification(tasks_folder() / SPECIFICATIONS[self.name])

    def evaluated_split(self) -> str:
        """The split that lm-eval evaluates on."""
        return self.config.get("test_split") or self.config["validation_split"]

    def fewshot_split(self) -> str | None:
        """The split that examples in the prompt come from; None where there are no such examples, or fixed ones."""
        own = self.config.get("num_fewshot")
        count = own if self.num_fewshot is None or own == 0 else self.num_fewshot
        if not count or "samples" in self.config.get("fewshot_config", {}):
            return None
        return next((self.config[key] for key in ("fewshot_split", *SPLIT_KEYS[:3]) if self.config.get(key)), None)

    def split_files(self) -> dict[str, str]:
        """Split -> its file in the folder. Raises: UserError where one that is needed is not there."""
        if self.data_dir is None:
            return {}
        wanted = [self.evaluated_split(), self.fewshot_split()]
        return {split: find_file(self.data_dir, self.name, split, split == wanted[0]) for split in wanted if split}

    def data_files(self) -> list[str]:
        """Its files in the folder. Raises: as `split_files`."""
        return list(self.split_files().values())

    def code_files(self) -> list[Path]:
        """None of the user's."""
        return []

    def code(self) -> list[str]:
        """Nothing in it runs code that does not come with lm-eval."""
        return []

    def foreign_metrics(self, known: Container[str]) -> list[str]:
        """As it comes with lm-eval, its metrics are trusted."""
        return []

    def look(self) -> None:
        """Raises UserError for a missing file, or one whose first row lacks columns."""
        for file in self.data_files():
            shape_of(self.name, file)

    def prepare(self, folder: Path, allow_code: bool = False) -> dict[str, Any]:
        """The content of its task YAML; converted data goes to `folder`.

        Raises: UserError for a missing file or column, a bad row, an empty split.
        """
        content: dict[str, Any] = {"include": str(self.files[0]), "task": self.name}
        if self.data_dir is None:
            return content
        files = self.split_files()
        converted = {split: str(folder / f"{self.name}-{split}.jsonl") for split in files}
        changes = [convert_file(self.name, file, Path(converted[split])).changes for split, file in files.items()]
        if any(other != changes[0] for other in changes):
            raise UserError(f"its files have different columns: {', '.join(files.values())}")
        splits = {key: None for key in SPLIT_KEYS if self.config.get(key) not in converted}
        data = {"data_files": converted, "cache_dir": str(folder / "cache")}
        return (
            content | {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": data} | splits | dict(changes[0])
        )


def find_file(data_dir: str, task: str, split: str, is_evaluated: bool) -> str:
    """The file of a split in `data_dir` or a folder right below it.

    Its name, or its folder's name and its own, hold the name of the task and a word for the split, whatever else they
    hold; a file without a word for a split is the one to evaluate on. Of several, one with the hub's columns counts.
    Raises: UserError unless there is exactly one.
    """
    files = [file for pattern in ("*", "*/*") for file in sorted(Path(data_dir).glob(pattern)) if is_data(file)]
    of_task = [file for file in files if is_of_task(file.relative_to(data_dir), task)]
    evaluated = split if is_evaluated else None
    found = [file for file in of_task if (split_of(file.relative_to(data_dir)) or evaluated) == split]
    if len(found) > 1:
        found = [file for file in found if shape_of(task, str(file)) is SHAPES[task][0]] or found
    if len(found) == 1:
        return str(found[0])
    if found:
        names = " and ".join(str(file.relative_to(data_dir)) for file in found)
        raise UserError(f"{names} in {data_dir} could both be its split {split}: rename one of them")
    others = ", ".join(str(file.relative_to(data_dir)) for file in of_task)
    wanted = f"{task}_{split}.jsonl, or {task}/{split}.jsonl"
    raise UserError(f"no file of its split {split} in {data_dir} (such as {wanted}; there is {others or 'none of it'})")


def is_data(file: Path) -> bool:
    """Whether this is a JSONL file."""
    return file.name.endswith(SUFFIXES) and file.is_file()


def is_of_task(file: Path, task: str) -> bool:
    """Whether the path of a file below the folder names the task. The longest benchmark's name in it counts."""
    name = "_".join(["", *_words(file.parent.name), *_words(stem(file)), ""])
    known = {text: own for own in SPECIFICATIONS for text in (own, *OTHER_NAMES.get(own, ()))}
    named = [text for text in known if f"_{text}_" in name]
    return bool(named) and known[max(named, key=len)] == task


def split_of(file: Path) -> str | None:
    """The split that a file is of by its name, or else by that of its folder."""
    return next((SPLITS[word] for word in (*_words(stem(file)), *_words(file.parent.name)) if word in SPLITS), None)


def shape_of(task: str, file: str) -> Shape:
    """The columns that a file comes in, by its first row.

    Raises: UserError where it is empty or broken, or lacks columns (which are named).
    """
    with open_source(file, whole=False) as source:
        return _shape(task, source)


def convert_file(task: str, file: str, target: Path) -> Shape:
    """Write the rows of `file` in the columns of the stock task. -> the columns that it came in.

    Raises: UserError for missing columns, a bad row, and a file without rows of the split.
    """
    with open_source(file) as source, open(target, "w", encoding="utf-8") as output:
        shape = _shape(task, source)
        count = 0
        for start, _, values in read_rows(source, shape.columns):
            try:
                row = shape.convert(*(values if len(shape.columns) > 1 else (values,)))
            except ValueError as error:
                raise UserError(f"{source.place(start)}: {error}") from None
            if row is not None:
                output.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
    if not count:
        raise UserError(f"{file} holds no rows of the split")
    return shape


def _shape(task: str, source: Source) -> Shape:
    start, there = first_row(source)
    if start is None:
        raise UserError(f"{source.path} holds no rows")
    missing = [[name for name in shape.top_level() if name not in there] for shape in SHAPES[task]]
    if [] in missing:
        return SHAPES[task][missing.index([])]
    nearest = min(range(len(missing)), key=lambda number: len(missing[number]))
    layouts = "; or ".join(", ".join(shape.top_level()) for shape in SHAPES[task])
    raise UserError(f"{source.place(start)}: missing columns {', '.join(missing[nearest])} (columns: {layouts})")


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())
