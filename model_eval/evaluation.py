"""What an evaluation method returns, and where the traces of one result lie."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """The results of a method. A task's: metric, value, stderr, n, and what more the method has to tell."""

    tasks: dict[str, dict[str, Any]]
    notes: dict[str, Any] = field(default_factory=dict)  # further fields of RESULT.yaml


def traces(result: str | Path) -> Path:
    """The folder beside RESULT.yaml with a folder for each task: raw output, and items for paired comparison."""
    return Path(f"{result}.work")
