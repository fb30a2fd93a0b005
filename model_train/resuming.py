"""Which run a folder belongs to, and where an interrupted run goes on. Needs no torch: mistakes are told at once."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common import world
from common.errors import UserError
from common.files import partial_path
from common.manifest import read_manifest, same_content

RECORD = "run.json"  # in a checkpoint: stage, method, configuration, inputs and number of processes of its run


@contextlib.contextmanager
def working_in(output: Path, identity: Mapping[str, Any], resume: str) -> Iterator[tuple[Path, Path | None]]:
    """The folder beside `output` that a run works in, locked, and the checkpoint that it goes on from.

    resume: auto, never or the path of a checkpoint.
    Raises: UserError where another run uses the folder, where `output` or the checkpoint are of another run (the
    message names the difference), where there is no checkpoint at the path.
    """
    work = partial_path(output)
    lock = output.with_name(f".{output.name}.lock")
    with contextlib.ExitStack() as stack:
        if world.is_main():
            try:
                output.parent.mkdir(parents=True, exist_ok=True)
                fcntl.flock(stack.enter_context(open(lock, "w")), fcntl.LOCK_EX | fcntl.LOCK_NB)
                stack.callback(lock.unlink, missing_ok=True)
                check_output(output, identity, resume)
                _make_room(output, work, identity, resume)
            except BlockingIOError:
                raise UserError(f"another run is training {output}") from None
            except OSError as error:
                raise UserError(f"cannot write {output}: {error.strerror}") from error
        world.wait()
        yield work, find_checkpoint(work, resume, identity)


def check_output(output: Path, identity: Mapping[str, Any], resume: str) -> None:
    """Raises UserError where something is in the way: what this stage did not make is never deleted, and the model of
    another run only with resume=never.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    made = read_manifest(output)
    if made is None or made.get("stage") != identity["stage"]:
        made = _record(newest_checkpoint(output))  # a run that was killed before its manifest
    if made is None:
        stage = identity["stage"]
        raise UserError(f"{output} exists and is no unchanged result of {stage}: remove it or choose another")
    changes = differences(made | {"processes": identity["processes"]}, identity)
    if changes and resume != "never":
        raise UserError(f"{output} is of another run: {'; '.join(changes)} (resume=never replaces it)")


def find_checkpoint(work: Path, resume: str, identity: Mapping[str, Any]) -> Path | None:
    """The checkpoint that the run goes on from: the newest in `work`, or the one at the path that `resume` is.

    Raises: UserError where it is of another run, naming the difference; where there is none at the path.
    """
    if resume == "never":
        return None
    checkpoint = newest_checkpoint(work) if resume == "auto" else Path(resume)
    if checkpoint is None:
        return None
    record = _record(checkpoint)
    if record is None:
        raise UserError(f"resume: {checkpoint} is no checkpoint of this stage (or auto, never)")
    changes = differences(record, identity)
    if changes:
        raise UserError(f"{checkpoint} is of another run: {'; '.join(changes)} (resume=never starts anew)")
    return checkpoint


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What tells one run from another, in words; empty where both are the same."""
    before, now = (run["config"] | {name: run.get(name) for name in ("method", "processes")} for run in (old, new))
    changes = [
        f"{key} was {_plain(before.get(key))}, is {_plain(now.get(key))}"
        for key in now | before
        if before.get(key) != now.get(key)
    ]
    for name in new["inputs"] | old["inputs"]:
        prints = [_listed(run["inputs"].get(name)) for run in (old, new)]
        if len(prints[0]) != len(prints[1]) or not all(map(same_content, *prints)):
            changes.append(f"{name} changed ({_named(prints[0])}; now {_named(prints[1])})")
    return changes


def checkpoints(folder: Path) -> list[Path]:
    """Those in `folder`, oldest first."""
    return sorted(folder.glob("checkpoint-*"), key=step_of)


def newest_checkpoint(folder: Path) -> Path | None:
    """None where there is none."""
    return max(checkpoints(folder), key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """Optimizer steps that were done when it was written."""
    number = checkpoint.resolve().name.split("-")[-1]
    return int(number) if number.isdecimal() else 0


def _make_room(output: Path, work: Path, identity: Mapping[str, Any], resume: str) -> None:
    """`work` with the checkpoints that are gone on from and nothing else. Raises: UserError as `find_checkpoint`."""
    if resume == "auto" and read_manifest(output) is None and newest_checkpoint(output) is not None:
        shutil.rmtree(work, ignore_errors=True)
        os.replace(output, work)  # complete but for its manifest
    checkpoint = find_checkpoint(work, resume, identity)
    if checkpoint is None or work.resolve() not in checkpoint.resolve().parents:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(exist_ok=True)
    if checkpoint is not None:
        print(f"going on from {checkpoint}")


def _record(checkpoint: Path | None) -> dict[str, Any] | None:
    """The run that a checkpoint belongs to; None where it does not say."""
    try:
        return json.loads((checkpoint / RECORD).read_text(encoding="utf-8")) if checkpoint else None
    except (OSError, ValueError):
        return None


def _listed(prints: Any) -> list[Mapping[str, Any]]:
    return prints if isinstance(prints, list) else [prints] if prints else []


def _named(prints: list[Mapping[str, Any]]) -> str:
    return " and ".join(f"{one['path']}, {one['bytes']:,} bytes" if "path" in one else one["id"] for one in prints)


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)
