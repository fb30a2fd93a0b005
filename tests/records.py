"""Records that tests put beside files, as the stages would."""

import shutil
from pathlib import Path

from common.files import draft_of
from common.manifest import Run


def declare(path: Path, directions: dict[str, str] | None = None, stage: str = "data_scoring", **inputs: str) -> None:
    """The manifest of a stage for a file that is there. directions: field -> "higher" or "lower"."""
    run = Run(stage, "fake", {}, inputs, str(path), directions or {})
    with draft_of(path) as draft:
        shutil.copy(path, draft)
        run.finish(draft)
