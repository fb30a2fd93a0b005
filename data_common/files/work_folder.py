"""The steps of one long run, each with a folder of its own: skipped when done before, resumed when killed.

A step is known by its identity: its keys, its inputs and the steps that it builds on. What was made under another
identity is never mixed in: it is removed, and the note says which key changed.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import xxhash

from data_common.files.atomic import partial_path, read_json, write_text
from data_common.files.contents import damaged, record_of, unreadable
from data_common.files.durable import discard, flush, flush_tree, held, open_own
from data_common.files.manifest import Run, version_news
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.parallel import distributed

RECORD = "step.json"  # in the folder of a step: its identity, whether it is complete, its files, its facts
TRASH = ".delt-trash"
OLDER = "; its inputs are compared as an older version recorded them"


def check_work_dir(path: Path, read: Iterable[str]) -> None:
    """Raises UserError where a work_dir cannot be written, or lies in a folder that is `read`, as a model is."""
    if within := next(
        (one for one in read if Path(one).is_dir() and path.resolve().is_relative_to(Path(one).resolve())), None
    ):
        raise UserError(f"work_dir {path} lies in {within}, which is read: choose another")
    folder = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"work_dir {path} cannot be used: {folder} is no folder that can be written")


class WorkFolder:
    """A folder of artefacts, locked while a run uses it."""

    def __init__(
        self,
        path: Path,
        inputs: Mapping[str, Any],
        run: Run | None = None,
        unchanged: Callable[[], None] = lambda: None,
    ):
        """inputs: what comes from outside, and how it is read: name -> fingerprint or value.

        run: the call that the work is for: its method's version is part of every step, and its inputs may be known
        from records of older versions. unchanged: raises UserError where an input was changed while it was read.
        """
        self.path, self.run, self.unchanged = path, run, unchanged
        self.inputs: dict[str, Any] = _plain(inputs)
        self.steps: dict[str, tuple[dict[str, Any], Sequence[str]]] = {}  # name -> keys, what it comes after
        method = run.identity.get("method", "").replace("_", "-") if run else ""
        self.method = {"method": method} if method else {}
        self.version = {"method_versions": run.identity["method_versions"]} if run and run.versions else {}

    @contextlib.contextmanager
    def locked(self) -> Iterator["WorkFolder"]:
        """Raises: UserError where another run is using the folder, or it cannot be written."""
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                if distributed.is_main():
                    busy = f"another run is using work_dir {self.path}"
                    stack.enter_context(held(self.path / ".lock", open_own, busy))
                    discard(self.path / TRASH)  # of a run that was killed while it removed something
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
        there = [*self.inputs, *self.steps]
        assert set(there) >= set(after), f"{name} reads {after}; there are only {there}"
        self.steps[name] = _plain(keys), after
        identity, folder = self._identity(name, self.inputs), self.path / name
        record = read_record(folder)
        known = self._is_known(name, record, identity)
        lost = _lost(folder, record) if known else []
        distributed.wait()  # until every process has read it
        if record.get("complete") and known and not lost:
            print(f"{name}: up to date ({visible(folder)}{'' if record['identity'] == identity else OLDER})")
            return record["facts"]
        if distributed.is_main():
            for file in lost:
                print(f"{name}: {file} is damaged or missing: it is made again")
                discard(folder / file)
            self._make_room(folder, name, record, identity, known)
        distributed.wait()
        started = time.perf_counter()
        facts = work(folder) if distributed.is_main() or not alone else None
        distributed.wait()
        if distributed.is_main():
            seconds = round(time.perf_counter() - started, 3)
            try:
                self.unchanged()
                if self.run:
                    self.run.check_inputs()
            except UserError:
                remove(folder)  # what was made of it may be torn
                raise
            flush_tree(folder)  # before the record that vouches for it
            files = record_of(folder, but=[RECORD])
            outcome = {"complete": True, "seconds": seconds, "files": files, "facts": _plain(facts)}
            _write_record(folder, {"identity": identity} | self.method | outcome)
            print(f"{name}: done in {seconds:.1f} s ({visible(folder)})")
        distributed.wait()
        return read_record(folder)["facts"]

    def _identity(self, name: str, inputs: Mapping[str, Any], within: str | None = None) -> Any:
        """Of a step, and so of all that it builds on, or of an input. within: the step that comes after it; an input
        may have the name of that one.
        """
        if name == within or name not in self.steps:
            return inputs[name]
        keys, after = self.steps[name]
        digests = {before: _digest(self._identity(before, inputs, name)) for before in after}
        return {"keys": keys, "after": digests} | self.version

    def _is_known(self, name: str, record: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
        """Whether the record is of this step, as it is known now or as older versions knew its inputs."""
        if not record or record["identity"] == identity:
            return bool(record)
        older = self.run.contents_once() if self.run else []
        return any(record["identity"] == self._identity(name, self.inputs | _plain(once)) for once in older)

    def _make_room(
        self, folder: Path, name: str, record: Mapping[str, Any], identity: Mapping[str, Any], known: bool
    ) -> None:
        """An empty folder for the step, or what a killed run of the same identity left in it."""
        unfinished = partial_path(folder / RECORD)  # of a run that was killed at its very first file
        foreign = folder.exists() and (not folder.is_dir() or any(path != unfinished for path in folder.iterdir()))
        if foreign and not record:
            if not _has_damaged_record(folder):
                raise UserError(f"{folder} holds files that no run made: choose another work_dir")
            aside = next(path for n in count(1) if not (path := self.path / f"{name}.damaged-{n}").exists())
            os.rename(folder, aside)
            print(f"{name}: made again, its {RECORD} is damaged (what was there is now {visible(aside)})")
        elif record and not known:
            print(f"{name}: made again, {visible(self._difference(record, identity))}")
            remove(folder)
        elif record:
            print(f"{name}: going on with what an interrupted run left")
        folder.mkdir(exist_ok=True)
        discard(folder / TRASH)
        flush(self.path)
        _write_record(folder, {"identity": identity, "complete": False} | self.method)

    def _difference(self, record: Mapping[str, Any], new: Mapping[str, Any]) -> str:
        old, other = record["identity"], record.get("method")
        if self.method and other is not None and other != self.method["method"]:
            return f"what was there is of {other} (a work_dir for each method keeps both)"
        versions = self.run.versions if self.run else {}
        news = version_news(old.get("method_versions", {}), new.get("method_versions", {}), versions)
        return news or _difference(old, new)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a step's folder; empty if it is missing or damaged."""
    try:
        record = read_json(folder / RECORD)
        identity = record["identity"]
        whole = isinstance(identity["keys"], dict) and isinstance(identity["after"], dict)
        whole &= not record.get("complete") or "facts" in record
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return record if whole else {}


def _has_damaged_record(folder: Path) -> bool:
    """Whether there is a record of ours that cannot be read, rather than another's file of that name."""
    try:
        return "identity" in read_json(folder / RECORD)
    except OSError:
        return False
    except (ValueError, RecursionError):
        return True
    except TypeError:
        return False


def _lost(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """Names of the files that are not what the step made; of those that a killed run left, which cannot be read."""
    files = record.get("files")
    return damaged(folder, files) if record.get("complete") and isinstance(files, dict) else unreadable(folder)


def remove(folder: Path) -> None:
    """Out of sight first: a folder that is half removed must not be taken for a whole one."""
    trash = folder.with_name(TRASH)
    discard(trash)
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
