"""Which run a folder belongs to, and where an interrupted run goes on. Needs no torch: mistakes are told at once."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_common.files.atomic import check_writable, manifest_path, partial_path, read_json
from data_common.files.contents import damaged, unreadable
from data_common.files.durable import discard, lock_file
from data_common.files.manifest import Run, read_manifest, same_content_of_all, version_news, with_defaults
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.parallel import distributed

OPTIMIZER = "optimizer.pt"  # in a checkpoint: its state
RECORD = "run.json"  # in a checkpoint: stage, method, configuration, inputs, number of processes of its run; its files


def identity_of(run: Run) -> dict[str, Any]:
    """What tells a run from another."""
    return run.identity | {"processes": distributed.size()}


@contextlib.contextmanager
def working_in(run: Run, resume: str) -> Iterator[tuple[Path, Path | None]]:
    """The folder beside MODEL_OUT that a run works in, locked, and the checkpoint that it goes on from.

    resume: auto, never or the path of a checkpoint.
    Raises: UserError where another run uses the folder, where MODEL_OUT or the checkpoint are of another run (the
    message names the difference), where there is no whole checkpoint at the path.
    """
    output = run.output.resolve() if run.output.is_symlink() else run.output
    work = partial_path(output)
    with contextlib.ExitStack() as stack:
        if distributed.is_main():
            check_writable(manifest_path(output))
            try:
                output.parent.mkdir(parents=True, exist_ok=True)
                lock = output.with_name(f".{output.name}.lock")
                stack.enter_context(lock_file(lock, f"another run is training {output}"))
                check_output(run, resume)
                _make_room(output, work, run, resume)
            except OSError as error:
                raise UserError(f"cannot write {output}: {error.strerror}") from error
        distributed.wait()
        yield work, find_checkpoint(work, resume, run)


def check_place(run: Run, resume: str) -> None:
    """Raises UserError where `working_in` would for what lies there already; nothing is made or removed."""
    output = run.output.resolve() if run.output.is_symlink() else run.output
    check_writable(manifest_path(output))
    check_output(run, resume)
    find_checkpoint(partial_path(output), resume, run)


def check_output(run: Run, resume: str) -> None:
    """Raises UserError where something is in the way: what this stage did not make is never deleted, and the model of
    another run only with resume=never.
    """
    output, stage = run.output, run.identity["stage"]
    work = partial_path(output.resolve())
    if read := [path for path in run.stamps if work in Path(path).resolve().parents]:
        raise UserError(f"{read[0]} is in the folder that this call works in: copy it to another one")
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    made = read_manifest(output, run.quick)
    if made is None or made.get("stage") != stage:
        made = _record(newest_checkpoint(output))  # a run that was killed before its manifest
    if made is None:
        read = any(output.resolve() == Path(path).resolve() for path in run.stamps)
        cure = "it is an input of this call: choose another" if read else "remove it or choose another"
        raise UserError(f"{output} exists and is no unchanged result of {stage}: {cure}")
    changes = differences(made | {"processes": distributed.size()}, run)
    if changes and resume != "never":
        raise UserError(f"{output} is of another run: {'; '.join(changes)} (resume=never replaces it)")


def find_checkpoint(work: Path, resume: str, run: Run) -> Path | None:
    """The checkpoint that the run goes on from: the newest whole one in `work`, or the one at the path `resume`.

    Raises: UserError where it is of another run, naming the difference; where there is no whole one at the path.
    """
    if resume == "never":
        return None
    checkpoint = _newest_whole(work) if resume == "auto" else Path(resume)
    if checkpoint is None:
        return None
    record = _record(checkpoint)
    if record is None:
        raise UserError(f"resume: {checkpoint} is no checkpoint of this stage (or auto, never)")
    if lost := _lost(checkpoint):
        raise UserError(f"resume: {checkpoint} is damaged ({lost}): choose an older one (or auto, never)")
    changes = differences(record, run)
    if changes:
        raise UserError(f"{checkpoint} is of another run: {'; '.join(changes)} (resume=never starts over)")
    return checkpoint


def checkpoint_to_continue(path: str) -> Path:
    """The checkpoint at `path`, or the last one in `path`, MODEL_OUT of a finished training.

    Raises: UserError where there is none, where it is damaged or has no state of its optimizer.
    """
    checkpoint = Path(path)
    if _record(checkpoint) is None:
        last, made = newest_checkpoint(checkpoint), read_manifest(path, quick=True)
        if made is None or made.get("stage") != "model_train" or last is None:
            if known := last or newest_checkpoint(partial_path(checkpoint)):
                raise UserError(
                    f"continue_from: {path} is no finished, unchanged model: name a checkpoint, say {known}"
                )
            cure = "a training keeps its last one in MODEL_OUT, more with save_total_limit"
            raise UserError(f"continue_from: {path} has no checkpoint with the state of the optimizer ({cure})")
        checkpoint = last
    if not (checkpoint / OPTIMIZER).exists():
        forms = "fsdp and deepspeed have other forms of it"
        raise UserError(f"continue_from: {checkpoint} has no {OPTIMIZER}, the optimizer's state ({forms})")
    if lost := _lost(checkpoint):
        raise UserError(f"continue_from: {checkpoint} is damaged ({lost}): name another one")
    return checkpoint


def _newest_whole(work: Path) -> Path | None:
    for checkpoint in reversed(checkpoints(work)):
        if not (lost := _lost(checkpoint)):
            return checkpoint
        print(f"note: {visible(checkpoint)} is damaged ({visible(lost)}): going back behind it")
    return None


def _lost(checkpoint: Path) -> str | None:
    """The first file of a checkpoint that does not hold what was saved in it."""
    record = _record(checkpoint)
    if record is None:
        return RECORD
    files = record.get("files")
    found = damaged(checkpoint, files) if isinstance(files, dict) else unreadable(checkpoint)
    return next(iter(found), None)


def differences(old: Mapping[str, Any], run: Run) -> list[str]:
    """What tells a run of old from this one, in words; empty where both are the same."""
    new = identity_of(run) | ({"processes": old.get("processes")} if run.quick else {})  # a look is by one process
    configs = (with_defaults(old["config"], new["config"], run.defaults), new["config"])
    before, now = (
        config | {name: one.get(name) for name in ("method", "processes")}
        for config, one in zip(configs, (old, new), strict=True)
    )
    changes = [
        f"{key} was {_plain(before.get(key))}, is {_plain(now.get(key))}"
        for key in now | before
        if before.get(key) != now.get(key)
    ]
    for name in new["inputs"] | old["inputs"]:
        prints = [_listed(one["inputs"].get(name)) for one in (old, new)]
        if not same_content_of_all(*prints):
            changes.append(f"{name} changed ({_named(prints[0])}; now {_named(prints[1])})")
    news = version_news(old.get("method_versions", {}), new["method_versions"], run.versions)
    return changes + ([news] if news else [])


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


def _make_room(output: Path, work: Path, run: Run, resume: str) -> None:
    """`work` with the checkpoints to resume from and nothing else. Raises: UserError as `find_checkpoint`."""
    if work.is_symlink() or (work.exists() and not work.is_dir()):
        raise UserError(f"{work} is in the way, and no folder that a run has left: remove it")
    if resume == "auto" and read_manifest(output) is None and newest_checkpoint(output) is not None:
        discard(work)
        os.replace(output, work)  # complete but for its manifest
    checkpoint = find_checkpoint(work, resume, run)
    if checkpoint is None or work.resolve() not in checkpoint.resolve().parents:
        discard(work)
    work.mkdir(exist_ok=True)
    if checkpoint is not None:
        print(f"going on from {visible(checkpoint)}")


def _record(checkpoint: Path | None) -> dict[str, Any] | None:
    """The run that a checkpoint belongs to; None where it does not say."""
    try:
        record = read_json(checkpoint / RECORD) if checkpoint else None
        return record if record and isinstance(record["config"], dict) and isinstance(record["inputs"], dict) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _listed(prints: Any) -> list[Mapping[str, Any]]:
    return prints if isinstance(prints, list) else [prints] if prints else []


def _named(prints: list[Mapping[str, Any]]) -> str:
    return " and ".join(f"{one['path']}, {one['bytes']:,} bytes" if "path" in one else one["id"] for one in prints)


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)
