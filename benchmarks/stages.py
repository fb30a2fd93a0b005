"""What each stage costs: the commands of pipeline.sh one by one, with wall and CPU seconds and peak memory.

    python -m benchmarks.stages [FOLDER]     five minutes on two cores; FOLDER (else a temporary one) holds the results

Knobs of pipeline.sh are taken from the environment. CPU seconds are user and system time of all processes of a command;
memory is the largest resident set of any of them.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def commands(folder: str) -> list[list[str]]:
    """What `bash pipeline.sh` would run, with its results in `folder`, but for the report at the end."""
    environment = os.environ | {"DRY_RUN": "1", "OUT": folder, "DELT_PYTHON": sys.executable}
    script = ["bash", str(REPOSITORY / "pipeline.sh")]
    printed = subprocess.run(script, env=environment, check=True, capture_output=True, text=True).stdout
    lines = [line.removeprefix("+ ") for line in printed.split("\n") if line.startswith("+ ")]
    return [shlex.split(line) for line in lines if "model_eval.report" not in line]


def filled(words: list[str], folder: str) -> list[str]:
    """The words with what is known by the manifests of earlier commands: rows that were selected, tokens of DELT."""
    for wanted, pattern, key in (
        ("AS_MANY_AS_DELT", "models/DELT.manifest.json", "trained_tokens"),
        ("AS_MANY_AS_SELECTED", "data/*_selected-r?.?.jsonl.manifest.json", "rows_out"),
    ):
        for manifest in Path(folder).glob(pattern):
            value = json.loads(manifest.read_text(encoding="utf-8"))[key]
            words = [word.replace(wanted, str(value)) for word in words]
    return words


def name_of(words: list[str]) -> str:
    """Stage, method and output of a command."""
    if words[0] != "bash":
        return f"utils {words[words.index('--id') + 1]}"
    stage = Path(words[1]).parent.name
    *_, output, method = words[2 : 6 if stage == "model_train" else 5]
    return f"{stage} {method} -> {Path(output).name}"


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", help="for the results (a temporary one)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, rows = given.folder or temporary, []
        for words in commands(folder):
            words = filled(words, folder)
            started = time.perf_counter()
            process = subprocess.Popen(words, env=os.environ | {"DELT_PYTHON": sys.executable})
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                sys.exit(f"failed: {shlex.join(words)}")
            wall, cpu = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
            rows.append([name_of(words), f"{wall:.1f}", f"{cpu:.1f}", f"{usage.ru_maxrss / 1024:,.0f}"])
        from benchmarks.measure import (
            print_table,  # late: a command starts as a copy of this process, in its memory too
        )

        print_table("Embedded run", ["command", "wall s", "CPU s", "peak memory MiB"], rows)


if __name__ == "__main__":
    main()
