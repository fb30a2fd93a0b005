"""The completion record: `OUT.manifest.json`, written last, means that OUT is complete."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_common.files import environment
from data_common.files.atomic import manifest_path, partial_path, pending_path, read_json, write_text
from data_common.files.durable import discard, flush, forget_old, publish, recover, remove_lock
from data_common.files.fingerprint import OWN, as_once, files_of, fingerprint, same_content, same_content_of_all, stamps
from data_common.messages.errors import UserError
from data_common.messages.visible import visible

Versions = Mapping[str, Mapping[int, str]]  # method -> version from 2 on -> what changed in its results


def read_manifest(output: str | Path, quick: bool = False) -> dict[str, Any] | None:
    """The manifest of `output`, or None if it is missing or does not describe what lies there.

    quick: its size is enough to know it by.
    """
    found = (_describing(path, output, quick) for path in (manifest_path(output), pending_path(output)))
    return next((content for content in found if content is not None), None)


def _describing(path: Path, output: str | Path, quick: bool = False) -> dict[str, Any] | None:
    """The manifest at `path`, if it is one of what lies at `output`; a damaged one counts as none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        content = read_json(path)
        if same_content(content["output"], fingerprint(output, quick=quick)):
            return content
    return None


def declared_directions(path: str, shards: Sequence[str], quick: bool = False) -> dict[str, str]:
    """Score field -> "higher" or "lower", from the manifest of an input, or from those of its shards.

    quick: as in `read_manifest`. Raises: UserError where shards contradict one another.
    """
    own = read_manifest(path, quick)
    directions: dict[str, str] = {}
    for manifest in [own] if own else (read_manifest(shard, quick) for shard in shards):
        for field, direction in (manifest or {}).get("directions", {}).items():
            if directions.setdefault(field, direction) != direction:
                raise UserError(f"the shards of {path} disagree on whether a higher {field} is better")
    return directions


class Run:
    """One execution of a stage: knows whether it was done before, and records that it is done."""

    def __init__(
        self,
        stage: str,
        method: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, Any],
        output: str,
        directions: Mapping[str, str] | None = None,
        *,
        defaults: Mapping[str, Any] | None = None,
        versions: Versions | None = None,
        quick: bool = False,
        paths: Sequence[str] = (),
    ):
        """inputs: name -> path or hub id (lists allowed) of all that the result depends on.

        directions: score field -> "higher" or "lower", which is better; carried onward from stage to stage.
        defaults: of the keys; a key that an older record does not know had its default.
        versions: of the methods; a record that does not know them is of version 1.
        quick: for a look: contents are known by their sizes, nothing is put right.
        paths: the words of the call, as IN and OUT; a record for whoever makes OUT again.
        """
        self.paths = list(paths)
        self.output, self.defaults, self.versions = Path(output), _plain(defaults or {}), dict(versions or {})
        self.started, self.quick, self.outdated = time.perf_counter(), quick, False
        if not quick:
            recover(self.output)
        self.identity = {
            "stage": stage,
            "method": method,
            "config": _plain(config),
            "inputs": {
                name: [fingerprint(p, quick=quick) for p in path]
                if isinstance(path, list)
                else fingerprint(path, quick=quick)
                for name, path in inputs.items()
            },
            "directions": dict(directions or {}),
            "method_versions": {name: max(changes) for name, changes in self.versions.items() if changes},
        }
        self.stamps = {path: stamps(path) for one in self._fingerprints() if (path := one.get("path"))}

    def check_inputs(self) -> None:
        """Raises UserError where an input was changed since the beginning: what was read of it may be torn."""
        for path, known_stamps in self.stamps.items():
            if stamps(path) != known_stamps:
                [known] = [one for one in self._fingerprints() if one.get("path") == path][:1]
                if not same_content(known, fingerprint(path)):
                    raise UserError(f"{path} was changed while it was read: run again when nothing writes to it")

    def input_files(self) -> list[Path]:
        """All that are read, those in folders such as models too."""
        return [file for path in self.stamps for _, file in files_of(Path(path)) or ()]

    def _fingerprints(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        _map_inputs(self.identity["inputs"], found.append)
        return found

    def contents(self) -> dict[str, Any]:
        """Name -> fingerprint of each input, wherever it lies."""
        return _map_inputs(self.identity["inputs"], lambda one: _without(one, "path", OWN))

    def contents_once(self) -> list[dict[str, Any]]:
        """`contents` as older versions had them, where those differ."""
        now, found = self.contents(), []
        for own in (True, False):
            once = _map_inputs(self.identity["inputs"], lambda one, own=own: _without(as_once(one, own), "path"))
            found += [once] if once not in (now, *found) else []
        return found

    def is_done(self) -> bool:
        """Whether OUT is the complete result of this very call; says so if it is.

        Where an older version of the method made it, `outdated` is true from then on.
        """
        before = read_manifest(self.output)
        if before is None or not self._is_same(before):
            return False
        if news := version_news(before.get("method_versions", {}), self.identity["method_versions"], self.versions):
            print(f"{visible(self.output)} is made again: {visible(news)}")
            self.outdated = True
            return False
        if pending_path(self.output).exists() and _describing(manifest_path(self.output), self.output) is None:
            self._publish_manifest()
        with contextlib.suppress(OSError):  # of a run of the same call that was killed at its last steps
            forget_old(self.output)
            remove_lock(self.output.with_name(f".{self.output.name}.lock"))
            partial_path(manifest_path(self.output)).unlink()
        print(f"{visible(self.output)} is up to date (same input, method and configuration); delete it to run again")
        return True

    def _publish_manifest(self) -> None:
        """It is on the disk already."""
        os.replace(pending_path(self.output), manifest_path(self.output))
        flush(manifest_path(self.output).parent)

    def _is_same(self, before: Mapping[str, Any]) -> bool:
        """Whether the record is of this call, its method's version aside; a moved input is still the same input."""
        now = self.identity
        if any(before.get(name) != now[name] for name in ("stage", "method", "directions")):
            return False
        if with_defaults(before.get("config"), now["config"], self.defaults) != now["config"]:
            return False
        return same_inputs(before.get("inputs"), now["inputs"])

    def seconds(self) -> float:
        """Wall-clock seconds since the stage began."""
        return time.perf_counter() - self.started

    def finish(self, draft: Path, print_of_draft: Mapping[str, Any] | None = None, **facts: Any) -> None:
        """Put `draft`, the finished file or folder, in the place of OUT, and the manifest beside it.

        The manifest waits on the disk while OUT is renamed: a run that is killed between the two is known to be done.
        print_of_draft: its fingerprint, where that is known. facts: counts, quantiles, ... are added to the manifest
        as they are.
        """
        content = self.identity | {
            "output": {**(print_of_draft or fingerprint(draft)), "path": str(self.output)},
            "seed": self.identity["config"].get("seed"),
            "seconds": round(self.seconds(), 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": environment.versions(),
            "git_commit": environment.git_commit(),
            "machine": environment.machine(),
            "call": {"folder": environment.working_folder(), "paths": self.paths},
            **facts,
        }
        pending = pending_path(self.output)
        discard(pending)
        try:
            write_text(pending, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
            publish(draft, self.output)
        except BaseException:
            if _describing(pending, self.output) is None:  # else OUT is in its place, and only its folder not flushed
                pending.unlink(missing_ok=True)
            raise
        self._publish_manifest()


def same_inputs(recorded: Any, current: Mapping[str, Any]) -> bool:
    """Whether the fingerprints of all inputs, single ones or lists, are of the same contents."""
    if not isinstance(recorded, Mapping) or recorded.keys() != current.keys():
        return False
    return all(same_content_of_all(recorded[name], current[name]) for name in current)


def with_defaults(recorded: Any, current: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a record, with the defaults of those keys of today that it does not know."""
    recorded = recorded if isinstance(recorded, dict) else {}
    return {key: defaults[key] for key in current if key in defaults and key not in recorded} | recorded


def version_news(recorded: Mapping[str, int], current: Mapping[str, int], versions: Versions) -> str:
    """Why results of the recorded versions are no longer those of today, in words; empty where they are."""
    raised = {name: (recorded.get(name, 1), current.get(name, 1)) for name in recorded | current}
    return "; ".join(
        f"results of {name} changed in version {number}: {reason}"
        for name, (before, now) in raised.items()
        for number, reason in versions.get(name, {}).items()
        if before < number <= now
    )


def _map_inputs(inputs: Mapping[str, Any], change: Callable[[Mapping[str, Any]], Any]) -> dict[str, Any]:
    return {
        name: [change(part) for part in one] if isinstance(one, list) else change(one) for name, one in inputs.items()
    }


def _without(content: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in names}


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value, default=str))
