"""The manifest of an output that is to be made again, and whether its inputs are still what they were."""

import glob
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from data_common.calls.stage import STAGES
from data_common.files.atomic import MANIFEST, manifest_path, read_json
from data_common.files.fingerprint import fingerprint, same_content
from data_common.messages.errors import UserError
from data_common.messages.visible import brief

DOWNLOADS = "utils"  # the stage of what utils.py makes


class _Place(msgspec.Struct):
    """What code here takes from a fingerprint of a path."""

    path: str
    bytes: int


class _Input(msgspec.Struct):
    """A path with what it held, or an id of the hub."""

    path: str | None = None
    id: str | None = None
    bytes: int = 0
    xxh3: str = ""


class _Machine(msgspec.Struct):
    processor: str = ""
    processes: int = 1
    threads: int | None = None
    gpu: str | None = None


class _Call(msgspec.Struct):
    folder: str | None = None
    paths: list[str] = []


class _Manifest(msgspec.Struct):
    """What code here takes from a manifest; there is more."""

    stage: str
    method: str
    config: dict[str, Any]
    inputs: dict[str, _Input | list[_Input]]
    output: _Place
    method_versions: dict[str, int] = {}
    versions: dict[str, str | None] = {}
    machine: _Machine = msgspec.field(default_factory=_Machine)
    call: _Call = msgspec.field(default_factory=_Call)


def load(path: str, option: str = "--replay") -> tuple[Path, dict[str, Any]]:
    """The manifest at `path`, or of the output that lies there: its place and content. option: that names the path.

    Raises: UserError.
    """
    place = Path(path)
    if not path.endswith(MANIFEST) and manifest_path(place).is_file():
        place = manifest_path(place)
    try:
        content = read_json(place)
        msgspec.convert(content, _Manifest)
        if not all({"path", "id"} & one.keys() for _, one in inputs_of(content)):
            raise ValueError("an input has neither path nor id")
    except OSError as error:
        cure = "" if path.endswith(MANIFEST) else f" (the manifest of an output is called NAME{MANIFEST})"
        raise UserError(f"{option} {path}: {error.strerror}{cure}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{option} {path} is no manifest of an output ({brief(str(error))})") from None
    if content["stage"] not in (*STAGES, DOWNLOADS):
        raise UserError(f"{option} {path}: no stage {brief(content['stage'])} is here")
    return place.absolute(), content


def inputs_of(record: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, fingerprint) of every input."""
    for name, prints in record["inputs"].items():
        for one in prints if isinstance(prints, list) else [prints]:
            yield name, one


def working_folder(manifest: Path, record: Mapping[str, Any]) -> Path:
    """The folder that relative paths of the call begin in. Raises: UserError with a line for each input that is
    missing or changed.

    It is the recorded one, or where that is gone, or the inputs are not in it, the one from which OUT has the path
    that it had, or the present one.
    """
    faults: dict[Path, list[str]] = {}
    for folder in _candidates(manifest, record):
        faults[folder] = [fault for name, one in inputs_of(record) if (fault := _fault(name, one, folder))]
        if not faults[folder]:
            return folder
    raise UserError(*min(faults.values(), key=len))


def _candidates(manifest: Path, record: Mapping[str, Any]) -> list[Path]:
    recorded, output = record.get("call", {}).get("folder"), record["output"]["path"]
    found = [Path(recorded)] if isinstance(recorded, str) and os.path.isdir(recorded) else []
    if not os.path.isabs(output):
        found.append(Path(os.path.normpath(manifest.parent / os.path.relpath(".", os.path.dirname(output) or "."))))
    return list(dict.fromkeys([*found, Path.cwd()]))


def _fault(name: str, recorded: Mapping[str, Any], folder: Path) -> str:
    """What is wrong with an input; empty where nothing is, or only the hub has it."""
    if "id" in recorded:
        there = os.path.lexists(folder / str(recorded["id"]))
        return f"{name}: {recorded['id']} was an id of the hub, and is a path now" if there else ""
    path = folder / recorded["path"]
    if not path.exists() and not glob.glob(str(path), recursive=True):
        return f"{name}: {path} is missing ({recorded['bytes']:,} bytes, xxh3 {recorded['xxh3']})"
    now = fingerprint(path)
    if same_content(recorded, now):
        return ""
    return f"{name}: {path} was changed since ({recorded['bytes']:,} bytes then, {now['bytes']:,} now)"
