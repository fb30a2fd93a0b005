"""Several processes for one call: `NPROC=2 bash STAGE/entry.sh ...` starts them through torchrun.

More machines: the same call on each, with NNODES, NODE_RANK and RDZV_ENDPOINT (host:port of the first) set.
"""

import logging
import os
import sys
import tempfile
from pathlib import Path

from common.errors import UserError


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

    Raises: SystemExit with the exit code of the process that failed first.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    count = int(os.environ.get("NPROC", "1"))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="delt-logs-") as logs:
        quiet = ",".join(f"{rank}:3" for rank in range(1, count))
        options = ["--module", f"--nproc-per-node={count}", f"--log-dir={logs}", *_rendezvous()]
        options += [f"--redirects={quiet}"] if quiet else []
        try:
            torchrun.run(torchrun.parse_args([*options, module, *words]))
        except ChildFailedError as failed:
            codes = {rank: failure.exitcode for rank, failure in failed.failures.items()}
            rank, first = failed.get_first_failure()
            if first.exitcode < 0:
                print(f"error: process {rank} was ended by signal {-first.exitcode}", file=sys.stderr)
            elif codes.get(0, 0) <= 0:  # the first process had no word of its own: it was only ended
                _print_last_words(Path(logs), first.local_rank)
            raise SystemExit(max(codes[rank], 1)) from None


def _rendezvous() -> list[str]:
    if os.environ.get("NNODES", "1") == "1":
        return ["--standalone"]
    names = {"NNODES": "nnodes", "NODE_RANK": "node-rank", "RDZV_ENDPOINT": "rdzv-endpoint"}
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise UserError(f"more than one machine: {', '.join(missing)} is not set")
    return ["--rdzv-backend=c10d", *(f"--{option}={os.environ[name]}" for name, option in names.items())]


def _print_last_words(logs: Path, local_rank: int) -> None:
    for log in logs.rglob(f"{local_rank}/stderr.log"):
        print(log.read_text(encoding="utf-8", errors="replace")[-4000:], end="", file=sys.stderr)
