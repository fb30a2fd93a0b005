"""Several processes for one call: `NPROC=2 bash STAGE/entry.sh ...` starts them through torchrun.

More machines: the same call on each, with NNODES, NODE_RANK and RDZV_ENDPOINT (host:port of the first) set.
LAUNCHER=accelerate or deepspeed takes that launcher instead of torchrun.
"""

import importlib.util
import logging
import os
import shlex
import sys
from pathlib import Path

from data_common.calls.config import did_you_mean
from data_common.files.temporary import temporary_folder
from data_common.messages.errors import SAID, UserError
from data_common.parallel.processes import end_with_parent

LAUNCHERS = ("torchrun", "accelerate", "deepspeed")


def wanted() -> bool:
    """Whether NPROC or NNODES asks for more processes than this one, which is not itself one of several.

    Raises: UserError where they are no numbers of at least 1.
    """
    counts = [os.environ.get(name, "1") for name in ("NPROC", "NNODES")]
    if not all(count.isdecimal() and int(count) for count in counts):
        raise UserError(f"NPROC={counts[0]}, NNODES={counts[1]}: expected numbers of at least 1")
    return counts != ["1", "1"] and "RANK" not in os.environ


def launch(module: str, words: list[str]) -> None:
    """Run `python -m module words` in NPROC processes; the first one prints, the output of the others is kept back.

    Raises: SystemExit with the exit code of the process that failed first; UserError where the launcher is not there.
    """
    line = command(module, words)
    os.environ["PYTHONSAFEPATH"] = "1"  # a folder here that is called as one of ours must not hide it
    if _launcher() != "torchrun":
        if importlib.util.find_spec(_launcher()) is None:
            raise UserError(f"LAUNCHER={_launcher()}: it is not installed (pip install {_launcher()})")
        os.execv(line[0], line)
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    count = int(os.environ.get("NPROC", "1"))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with temporary_folder("logs") as logs:
        quiet = ",".join(f"{rank}:3" for rank in range(1, count))
        options = [f"--log-dir={logs}", *([f"--redirects={quiet}"] if quiet else [])]
        try:
            torchrun.run(torchrun.parse_args([*options, *line[3:]]))
        except ChildFailedError as failed:
            codes = {rank: failure.exitcode for rank, failure in failed.failures.items()}
            rank, first = failed.get_first_failure()
            if first.exitcode < 0:
                print(f"error: process {rank} was ended by signal {-first.exitcode}", file=sys.stderr)
            elif codes.get(0, 0) <= 0 and not any(logs.rglob(f"0/{SAID}")):  # the first process was only ended
                _print_last_words(logs, first.local_rank)
            raise SystemExit(max(codes[rank], 1)) from None


def command(module: str, words: list[str]) -> list[str]:
    """The line that `launch` runs. Raises: UserError for an unknown LAUNCHER, or where NNODES lacks its company."""
    python, count = [sys.executable, "-m"], os.environ.get("NPROC", "1")
    nodes, rank, meeting = _machines()
    if _launcher() == "torchrun":
        meet = ["--rdzv-backend=c10d", f"--nnodes={nodes}", f"--node-rank={rank}", f"--rdzv-endpoint={meeting}"]
        options = [f"--nproc-per-node={count}", *(["--standalone"] if nodes == "1" else meet)]
        return [*python, "torch.distributed.run", "--module", *options, module, *words]
    host, _, port = meeting.partition(":")
    if _launcher() == "accelerate":
        total = str(int(count) * int(nodes))
        options = [f"--num_processes={total}", f"--num_machines={nodes}", f"--machine_rank={rank}"]
        options += ["--mixed_precision=no", "--dynamo_backend=no"]  # the stage's own keys say that
        # --multi_gpu starts the processes on a CPU as well, where --cpu would silently start one
        options += ["--multi_gpu", *([f"--main_process_ip={host}", f"--main_process_port={port}"] if host else [])]
        return [*python, "accelerate.commands.launch", *options, "--module", module, *words]
    options = [f"--num_gpus={count}", f"--num_nodes={nodes}", "--no_local_rank"]
    options += ["--no_ssh", f"--node_rank={rank}", f"--master_addr={host}", f"--master_port={port}"] if host else []
    return [*python, "deepspeed.launcher.runner", *options, "--module", module, *words]


def describe(module: str, words: list[str]) -> str:
    """The line that `launch` runs, as one would type it."""
    return shlex.join(command(module, words))


def follow_launcher() -> None:
    """Called in each of several processes: it goes with its launcher, or it would work on unseen; only one prints."""
    if "RANK" in os.environ:
        end_with_parent()
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)


def _launcher() -> str:
    launcher = os.environ.get("LAUNCHER", "torchrun")
    if launcher not in LAUNCHERS:
        raise UserError(f"LAUNCHER={launcher} is unknown{did_you_mean(launcher, LAUNCHERS)}")
    return launcher


def _machines() -> tuple[str, str, str]:
    """How many, which of them this is, and host:port where they meet (empty for one)."""
    if os.environ.get("NNODES", "1") == "1":
        return "1", "0", ""
    missing = [name for name in ("NODE_RANK", "RDZV_ENDPOINT") if name not in os.environ]
    if missing:
        raise UserError(f"more than one machine: {', '.join(missing)} is not set")
    return os.environ["NNODES"], os.environ["NODE_RANK"], os.environ["RDZV_ENDPOINT"]


def _print_last_words(logs: Path, local_rank: int) -> None:
    for log in logs.rglob(f"{local_rank}/stderr.log"):
        print(log.read_text(encoding="utf-8", errors="replace")[-4000:], end="", file=sys.stderr)
