"""Scores of texts in a notebook or a program: a call of the stage on a temporary file."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_common.calls.cli import run_call
from data_scoring.entry import STAGE


def score_texts(texts: Iterable[str], method: str, **keys: Any) -> dict[str, np.ndarray]:
    """Field -> the values of all texts, (n,): `score` first, then what else the method writes.

    method, keys: as on the command line, with the defaults of the method's YAML; lists and mappings as Python has them.
    A text without words stops the call, unless on_short="worst"; on_short="drop" gives fewer values than texts.
    Raises: UserError as the call would print it.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "texts.jsonl"), Path(folder, "scored.jsonl")
        with open(source, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
        words = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in keys.items()]
        run_call(STAGE, [str(source), str(target), method, *words])
        rows = [json.loads(line) for line in target.read_text(encoding="utf-8").split("\n")[:-1]]
    return {field: np.array([row[field] for row in rows]) for field in rows[0] if field != "text"}
