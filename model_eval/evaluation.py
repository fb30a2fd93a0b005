"""What an evaluation method returns, and where the traces of one result lie."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.yaml_text import parse_yaml


@dataclass(frozen=True)
class Evaluation:
    """The results of a method. A task's: metric, value, stderr, n, and what more the method has to tell."""

    tasks: dict[str, dict[str, Any]]
    notes: dict[str, Any] = field(default_factory=dict)  # further fields of RESULT.yaml


def load_result(path: str) -> dict[str, Any]:
    """The content of RESULT.yaml, in which `model` and `tasks` are. Raises: UserError for a file that is no result."""
    try:
        content = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:  # YamlFault, no UTF-8
        content = None
    kinds = {"model": str, "tasks": dict}
    if not isinstance(content, dict) or not all(isinstance(content.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"{path} is no result of model_eval")
    return content


def traces(result: str | Path) -> Path:
    """The folder beside RESULT.yaml with a folder for each task: raw output, and items for paired comparison."""
    return Path(f"{result}.work")
