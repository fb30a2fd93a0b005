"""What is not as it was when an output was made, in words: method, keys, code, packages, machine."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from data_common.calls.stage import Stage, keys_for, load_method, versions_of
from data_common.files import environment
from data_common.files.manifest import version_news
from data_common.replay.record import DOWNLOADS, inputs_of


def stage_of(name: str) -> Stage:
    """What the entry of a stage declares."""
    return importlib.import_module(f"{name}.entry").STAGE


def unknown_keys(record: Mapping[str, Any]) -> list[str]:
    """Keys of the recorded configuration that the method does not have any more. Raises: UserError where there is no
    such method.
    """
    stage = stage_of(record["stage"])
    method, _ = load_method(stage, record["method"])
    known = {name for keys in keys_for(stage, method, record["config"]) for name in keys}
    return [name for name in record["config"] if name not in known]


def changes(record: Mapping[str, Any]) -> Iterator[str]:
    """A line for each. Raises: UserError as `unknown_keys`."""
    if record["stage"] != DOWNLOADS:
        for key in unknown_keys(record):
            yield f"key {key}={record['config'][key]} is no key of {record['method']} any more: left out"
    if news := _method_news(record):
        yield news
    then, now = record.get("git_commit"), environment.git_commit()
    if then != now:
        yield f"git commit: was {then or 'not recorded'}, is {now or 'none (no repository)'}"
    for module, version in record.get("versions", {}).items():
        present = environment.versions()["python"] if module == "python" else environment.installed(module)
        if present != version:
            yield f"{module}: was {version}, is {present or 'not installed'}"
    yield from _machine_changes(record)
    for name, one in inputs_of(record):
        if "id" in one:
            yield f"{name} {one['id']} is an id of the hub: what it held then is not recorded"


def _method_news(record: Mapping[str, Any]) -> str:
    """Why results of the recorded versions of the methods are not those of today."""
    if record["stage"] == DOWNLOADS:
        table = importlib.import_module("data_common.entry").VERSIONS
        versions = {record["method"]: table} if record["method"] in record.get("method_versions", {}) else {}
    else:
        method, _ = load_method(stage_of(record["stage"]), record["method"])
        versions = versions_of(record["method"], method)
        if select := record["config"].get("select"):
            chosen, _ = load_method(stage_of("data_selection"), select)
            versions = versions | versions_of(select, chosen)
    current = {name: max(table) for name, table in versions.items()}
    return version_news(record.get("method_versions", {}), current, versions)


def _machine_changes(record: Mapping[str, Any]) -> Iterator[str]:
    """Of results that are computed; rows that are only copied are the same on every machine."""
    then, now = record.get("machine", {}), environment.machine()
    if record["stage"] in ("data_selection", "data_ordering", DOWNLOADS) or not then:
        return
    if then.get("processor") != now["processor"]:
        yield f"processor: was {then.get('processor')}, is {now['processor']}: the last digits may differ"
    if gpu := then.get("gpu"):
        yield f"computed on {gpu}: on another device the last digits may differ"
    if (count := then.get("processes", 1)) > 1:
        yield f"computed by {count} processes: as many are started, and sums may be added in another order"
