"""The steps of one long run, each with a folder of its own: skipped when done before, gone on with when killed.

A step is known by its identity: its keys, its inputs and the steps that it builds on. What was made under another
identity is never mixed in: it is removed, and the note says which key changed.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from common import world
from common.errors import UserError
from common.files import partial_path, write_text

RECORD = "step.json"  # in the folder of a step: its identity, whether it is complete, its facts


class WorkFolder:
    """A folder of artefacts, locked while a run uses it."""

    def __init__(self, path: Path, inputs: Mapping[str, Any]):
        """inputs: what comes from outside, and how it is read: name -> fingerprint or value."""
        self.path = path
        self.identities: dict[str, Any] = _plain(inputs)

    @contextlib.contextmanager
    def locked(self) -> Iterator["WorkFolder"]:
        """Raises: UserError where another run is using the folder, or it cannot be written."""
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(open(self.path / ".lock", "w"))
                if world.is_main():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another run is using work_dir {self.path}") from None
            except OSError as error:
                raise UserError(f"work_dir {self.path} cannot be used: {error.strerror}") from error
            yield self

    def step(
        self,
        name: str,
        keys: Mapping[str, Any],
        after: Sequence[str],
        work: Callable[[Path], Mapping[str, Any]],
        alone: bool = False,
    ) -> dict[str, Any]:
        """Do `work` in the folder of the step, unless that was done for the same keys and earlier steps. -> its facts.

        after: the inputs and steps that it reads. work: folder -> facts; it finds there
        what a killed run left. alone: one process does it while the others wait.
        Raises: UserError where the folder holds files that are not ours.
        """
        assert self.identities.keys() >= set(after), f"{name} reads {after}; there are only {list(self.identities)}"
        identity = {"keys": _plain(keys), "after": {before: _digest(self.identities[before]) for before in after}}
        self.identities[name] = identity
        folder = self.path / name
        record = read_record(folder)
        world.wait()  # until every process has read it
        if record.get("complete") and record["identity"] == identity:
            print(f"{name}: up to date ({folder})")
            return record["facts"]
        if world.is_main():
            _make_room(folder, name, record, identity)
        world.wait()
        started = time.perf_counter()
        facts = work(folder) if world.is_main() or not alone else None
        world.wait()
        if world.is_main():
            seconds = round(time.perf_counter() - started, 3)
            _write_record(folder, {"identity": identity, "complete": True, "seconds": seconds, "facts": _plain(facts)})
            print(f"{name}: done in {seconds:.1f} s ({folder})")
        world.wait()
        return read_record(folder)["facts"]


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a step's folder; empty where there is none."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "identity" in record else {}


def _make_room(folder: Path, name: str, record: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """An empty folder for the step, or what a killed run of the same identity left in it."""
    unfinished = partial_path(folder / RECORD)  # of a run that was killed at its very first file
    foreign = folder.exists() and (not folder.is_dir() or any(path != unfinished for path in folder.iterdir()))
    if foreign and not record:
        raise UserError(f"{folder} holds files that no run made: choose another work_dir")
    if record and record["identity"] != identity:
        print(f"{name}: made anew, {_difference(record['identity'], identity)}")
        remove(folder)
    elif record:
        print(f"{name}: going on with what an interrupted run left")
    folder.mkdir(exist_ok=True)
    _write_record(folder, {"identity": identity, "complete": False})


def remove(folder: Path) -> None:
    """Out of sight first: a folder that is half removed must not be taken for a whole one."""
    trash = folder.with_name(".trash")
    shutil.rmtree(trash, ignore_errors=True)
    if folder.exists():
        os.replace(folder, trash)
        shutil.rmtree(trash)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """In words: the keys that changed, else the inputs and earlier steps that did."""
    before, now = old["keys"], new["keys"]
    changed = [key for key in now | before if before.get(key) != now.get(key)]
    if changed:
        return "; ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in changed)
    others = [name for name in new["after"] | old["after"] if old["after"].get(name) != new["after"].get(name)]
    return f"since {' and '.join(others)} changed"


def _write_record(folder: Path, record: Mapping[str, Any]) -> None:
    write_text(folder / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    """As JSON gives it back, so that it can be compared with what was read."""
    return json.loads(json.dumps(value))


def _digest(identity: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128(json.dumps(identity, sort_keys=True).encode()).hexdigest()
