"""The call that a manifest records, with every output in another folder."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_common.calls.stage import REPOSITORY
from data_common.messages.errors import UserError
from data_common.replay.changes import unknown_keys
from data_common.replay.record import DOWNLOADS, inputs_of
from data_common.rows.jsonl import open_source

OF_CODE = ("trust_remote_code", "allow_code_execution", "allow_pickle")  # keys that let code of other people run
WITHOUT_EFFECT = ("work_dir", "cache", "resume", "overwrite_out", "report_to", "project")  # on what OUT holds
CONTENT = {"python-stdlib": "dataset", "tiny": "model"}  # of what utils.py makes itself
START = 'source "$0/data_common/python.sh"; run_stage "$@"'


def command(record: Mapping[str, Any], folder: Path, out: Path, scratch: Path) -> tuple[list[str], Path]:
    """The line that makes the output again in `out`, run in `folder`; the path of the output.

    scratch: a folder for the configuration. Raises: UserError where the call cannot be told from the record.
    """
    if record["stage"] == DOWNLOADS:
        target = out / Path(record["output"]["path"]).name
        words = ["data_common", *_download(record, target)]
    else:
        paths = _paths(record, folder)
        made = out / Path(paths[-1]).name
        config, rejects = _config(record, out)
        file = scratch / "call.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        words = [record["stage"], *paths[:-1], str(made), record["method"], str(file)]
        beside = made.with_name(Path(record["output"]["path"]).name)  # OUT, or the scores of its rows
        target = Path(rejects) if rejects and _is_rejects(record, folder) else beside
    return ["bash", "-c", START, str(REPOSITORY), *words], target


def code_keys(record: Mapping[str, Any]) -> list[str]:
    """Those of the configuration that are true."""
    return [name for name, value in record["config"].items() if name.rpartition(".")[2] in OF_CODE and value is True]


def environment_of(record: Mapping[str, Any], scratch: Path, python: str) -> dict[str, str]:
    """As many processes and threads as then; a cache of its own, so that nothing is taken from an earlier call."""
    machine = record.get("machine", {})
    processes, threads = machine.get("processes", record.get("processes", 1)), machine.get("threads")
    kept = {name: value for name, value in os.environ.items() if name not in ("NPROC", "NNODES")}
    kept |= {"NPROC": str(processes)} if processes > 1 else {}
    kept |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    return kept | {"DELT_CACHE": str(scratch / "cache"), "DELT_PYTHON": python}


def _paths(record: Mapping[str, Any], folder: Path) -> list[str]:
    """The words of the call before METHOD. Raises: UserError where IN has other files than then."""
    paths = record.get("call", {}).get("paths") or _guessed_paths(record)
    if record["stage"] == "model_eval":
        return paths
    recorded = [Path(one["path"]).name for name, one in inputs_of(record) if name == "data"]
    with open_source(str(folder / paths[0]), whole=False) as source:
        present = [Path(shard.name).name for shard in source.shards]
    if present != recorded:
        raise UserError(f"data: {folder / paths[0]} had {len(recorded):,} files, and not those {len(present):,}")
    return paths


def _guessed_paths(record: Mapping[str, Any]) -> list[str]:
    """Of records that do not have them."""
    places = {name: one for name, one in inputs_of(record)}
    model = [places["model"].get("path") or places["model"]["id"]] if "model" in places else []
    if record["stage"] == "model_eval":
        return [*model, record["output"]["path"]]
    shards = [one["path"] for name, one in inputs_of(record) if name == "data"]
    source = shards[0] if len(shards) == 1 else os.path.commonpath(shards)
    return [source, *(model if record["stage"] == "model_train" else []), record["output"]["path"]]


def _config(record: Mapping[str, Any], out: Path) -> tuple[dict[str, Any], str | None]:
    """The keys that the method still has, without those that matter to the place alone; where rejects go."""
    left_out = {*WITHOUT_EFFECT, *unknown_keys(record)}
    config = {name: value for name, value in record["config"].items() if name not in left_out}
    config |= _directions(config, record.get("directions", {}))
    if not config.get("rejects"):
        return config, None
    config["rejects"] = str(out / "rejects" / Path(config["rejects"]).name)
    return config, config["rejects"]


def _directions(config: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    """Keys that say which scores are better, where the call took it from the manifest of IN: that may be gone now.

    known: score field -> "higher" or "lower", as the call went by it.
    """
    said: dict[str, Any] = {}
    for prefix in ("", "select."):
        one, several = config.get(f"{prefix}score_field"), config.get(f"{prefix}score_fields") or config.get("fields")
        if config.get(f"{prefix}direction") == "auto" and one in known:
            said[f"{prefix}direction"] = known[one]
        if f"{prefix}lower_is_better" in config and known.keys() & several:
            lower = config[f"{prefix}lower_is_better"] or []
            more = [field for field in several if known.get(field) == "lower" and field not in lower]
            said[f"{prefix}lower_is_better"] = [*lower, *more]
    return said


def _is_rejects(record: Mapping[str, Any], folder: Path) -> bool:
    """Whether the manifest is of the rejected rows."""
    one, other = (os.path.abspath(folder / path) for path in (record["output"]["path"], record["config"]["rejects"]))
    return one == other


def _download(record: Mapping[str, Any], target: Path) -> list[str]:
    """Words for utils.py; of the hub the revision that was taken."""
    config, source = dict(record["config"]), record["method"]
    words = ["--content", CONTENT.get(source, source), "--id", config.pop("id"), "--save-dir", str(target)]
    if source == "tiny":
        words += ["--data", next(one["path"] for _, one in inputs_of(record))]
    if revision := record.get("revision"):
        config["revision"] = revision
    for name, value in config.items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [f"{option}={value}"]
    return words
