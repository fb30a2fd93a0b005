"""pass@1 of programs that a model wrote, each run in a process of its own, with limits on time and memory.

lm-eval fetches this metric, `code_eval`, as code from the hub; with this one its code tasks run without. The share of
samples that pass is pass@k of HumanEval (arXiv 2107.03374, equation 1) for k = 1. No sandbox: a program may do what the
user may.
"""

import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evaluate

from data_common.files.temporary import temporary_folder
from data_common.messages.errors import UserError

SECONDS = 5
LIMITS = f"""import resource
resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
del resource
"""


_load = evaluate.load


class CodeMetric:
    """What `evaluate.load("code_eval")` would give, as far as lm-eval uses it."""

    def compute(
        self, references: Sequence[str], predictions: Sequence[Sequence[str]], k: Sequence[int] = (1,)
    ) -> tuple[dict[str, float], dict[int, list[bool]]]:
        """Tests and programs of each problem -> mean over problems of the share that passes; which passed.

        Raises: ValueError for another k than 1.
        """
        if list(k) != [1]:
            raise ValueError(f"k={list(k)}: only pass@1 is measured")
        passed = {
            problem: [passes(f"{program}\n{tests}") for program in programs]
            for problem, (tests, programs) in enumerate(zip(references, predictions, strict=True))
        }
        shares = [sum(found) / len(found) for found in passed.values()]
        return {"pass@1": sum(shares) / len(shares)}, passed


def passes(program: str) -> bool:
    """Whether a program runs to its end in time; leaving early, as by sys.exit, is no pass."""
    proof = secrets.token_hex(16)
    with temporary_folder("code") as folder:
        path, output = folder / "program.py", folder / "output"
        end = f"\nimport os, sys\nsys.__stdout__.flush()\nos.write(1, b'{proof}')\n"
        path.write_text(f"{LIMITS}{program}{end}", encoding="utf-8", errors="replace")
        with open(output, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-I", str(path)],
                cwd=folder,
                env={"PATH": "/usr/bin:/bin"},  # nothing of the user's, tokens least of all
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.DEVNULL,
            )
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return process.returncode == 0 and output.read_bytes().endswith(proof.encode())


def guard_metrics(allow_code: bool) -> None:
    """Set how `evaluate.load` answers from here on: what comes from the hub as before.

    allow_code: "code_eval" gives CodeMetric. Else a file or folder of a metric's name in the working folder, which
    `evaluate` would run in place of the metric, is refused.
    """

    def guarded(path: str, *arguments: Any, **options: Any) -> Any:
        if allow_code and path == "code_eval":
            return CodeMetric()
        if not allow_code and Path(path).exists():
            raise UserError(f"{path} of the working folder would run in place of the metric of that name")
        return _load(path, *arguments, **options)

    evaluate.load = guarded
