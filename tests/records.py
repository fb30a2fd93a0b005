"""Records that tests put beside files, as the stages would."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_common.files.atomic import draft_of
from data_common.files.manifest import Run


def declare(
    path: Path,
    directions: Mapping[str, str] | None = None,
    stage: str = "data_scoring",
    config: Mapping[str, Any] | None = None,
    **inputs: str | list[str],
) -> None:
    """The manifest of a stage for a file or folder that is there. directions: field -> "higher" or "lower".

    inputs: name -> path or paths.
    """
    run = Run(stage, "fake", config or {}, inputs, str(path), directions or {})
    with draft_of(path, folder=path.is_dir()) as draft:
        if path.is_dir():
            shutil.copytree(path, draft, dirs_exist_ok=True)
        else:
            shutil.copy(path, draft)
        run.finish(draft)
