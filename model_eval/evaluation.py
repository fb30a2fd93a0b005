"""What an evaluation method returns, and where the traces of one result lie."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict
from urllib.parse import quote

import msgspec

from data_common.calls.yaml_text import parse_yaml
from data_common.messages.errors import UserError
from data_common.messages.visible import brief


@dataclass(frozen=True)
class Evaluation:
    """The results of a method. A task's: metric, value, stderr, n, and what more the method has to tell."""

    tasks: dict[str, dict[str, Any]]
    notes: dict[str, Any] = field(default_factory=dict)  # further fields of RESULT.yaml


class _Task(TypedDict):
    metric: str
    value: float
    stderr: Annotated[float, msgspec.Meta(ge=0)] | None
    n: Annotated[int, msgspec.Meta(ge=0)]
    items: NotRequired[str | None]


class _Result(TypedDict):
    """What other code takes from RESULT.yaml; there may be more."""

    model: str
    tasks: dict[str, _Task]
    scoring: NotRequired[str | None]
    selection: NotRequired[str | None]
    ordering: NotRequired[str | None]
    selection_ratio: NotRequired[float | None]
    arm: NotRequired[str | None]
    model_content: NotRequired[str]
    settings: NotRequired[dict[str, Any]]
    made_by: NotRequired[dict[str, Any]]


def load_result(path: str) -> dict[str, Any]:
    """The content of RESULT.yaml, in which `model` and `tasks` are. Raises: UserError for a file that is no result."""
    try:
        content = parse_yaml(Path(path).read_text(encoding="utf-8"))
        checked = msgspec.convert(content, _Result)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # YamlFault, no UTF-8, another content
        raise UserError(f"{path} is no result of model_eval ({brief(str(error))})") from None
    tasks = {name: content["tasks"][name] | task for name, task in checked["tasks"].items()}
    return content | checked | {"tasks": tasks}


def folder_of(task: str) -> str:
    """The name of a task's folder: its own, but that a folder's name holds no slash and does not begin with a dot."""
    name = quote(task, safe="") if "/" in task else task
    return f"%2E{name[1:]}" if name.startswith(".") else name


def traces(result: str | Path) -> Path:
    """The folder beside RESULT.yaml with a folder for each task: raw output, and items for paired comparison."""
    return Path(f"{result}.work")
