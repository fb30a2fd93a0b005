"""How a model and its data were made, from the manifests that they carry."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_common.files.fingerprint import fingerprint, same_content_of_all
from data_common.files.manifest import read_manifest

STAGES = {"data_scoring": "scoring", "data_selection": "selection", "data_ordering": "ordering"}
CHECKPOINT, RUN_RECORD = re.compile(r"checkpoint-(\d+)"), "run.json"  # a folder in that of a run, and what it tells
CONTENT = "content "  # what values begin with that stand for contents
# Keys of stages that change where, how fast or beside what something is computed, but not what comes out of it.
OF_MACHINES = (
    *("device", "workers", "work_dir", "batch_tokens", "trust_remote_code", "fsdp", "deepspeed", "compile"),
    *("gradient_checkpointing", "chunked_loss", "save_steps", "save_total_limit", "logging_steps", "report_to"),
    *("project", "heldout_data", "heldout_steps", "plot", "rejects", "rows_per_shard", "on_bad_row"),
)


def provenance(model: str) -> dict[str, Any]:
    """Of a model that this project trained: training_seed, scoring, selection, ordering, selection_ratio (0 to 1).

    The ratio is rows out over rows in of all selections from the data of the model back to the first data without a
    manifest, 1 where nothing on that way selects. What no manifest tells is left out.
    """
    manifest = _of_model(model)
    if manifest is None:
        return {}
    facts: dict[str, Any] = {"training_seed": manifest["config"].get("seed")}
    ratio = 1.0
    while (manifest := _of_data(manifest)) is not None:
        stage, config = manifest["stage"], manifest["config"]
        if stage in STAGES:
            facts.setdefault(STAGES[stage], manifest["method"])
        if config.get("select"):
            facts.setdefault("selection", config["select"])
        if stage == "data_selection" or config.get("select"):
            ratio *= manifest["rows_out"] / manifest["rows_in"]
        facts["selection_ratio"] = round(ratio, 6)
    return facts


def made_by(model: str) -> dict[str, Any]:
    """All that went into a model that this project trained, but seeds; two seeds of one experiment have the same.

    Name -> value: keys of the training by their names, of what made its data as `data.KEY`, and so on back to data and
    models that no stage made, which stand for their contents. Empty where no manifest tells.
    """
    manifest = _of_model(model)
    if manifest is None:
        return {}
    step = _step({"path": model})
    return dict(_all_of(manifest, "")) | ({} if step is None else {"checkpoint": step})


def content_of(known: Mapping[str, Any]) -> str:
    """What stands for the content that a fingerprint is of: a hash; of a hub id, the id."""
    return str(known.get("xxh3") or known.get("id"))


def is_content(value: Any) -> bool:
    """Whether a value of `made_by` stands for data or a model that no stage made."""
    return isinstance(value, str) and value.startswith(CONTENT)


def _of_model(model: str) -> dict[str, Any] | None:
    """The manifest of a model, or what a checkpoint of a run tells of it."""
    manifest = read_manifest(model)
    if manifest is None and CHECKPOINT.fullmatch(Path(model).absolute().name):
        try:
            manifest = json.loads(Path(model, RUN_RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
    return manifest if manifest is not None and manifest.get("stage") == "model_train" else None


def _all_of(manifest: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    yield f"{prefix}method", manifest["method"]
    for key, value in manifest["config"].items():
        if key.split(".")[-1] not in ("seed", "continue_from", *OF_MACHINES):  # a path: its content is an input
            yield f"{prefix}{key}", value
    inputs = {name: recorded for name, recorded in manifest["inputs"].items() if name not in OF_MACHINES}
    for name, recorded in inputs.items():
        maker = _maker(recorded)
        if maker is not None:
            yield from _all_of(maker, f"{prefix}{name}.")
            if (step := _step(recorded)) is not None:
                yield f"{prefix}{name}.checkpoint", step
        else:
            prints = recorded if isinstance(recorded, list) else [recorded]
            yield f"{prefix}{name}", CONTENT + " ".join(map(content_of, prints))


def _step(recorded: Any) -> int | None:
    """The step of a checkpoint of a training; None of anything else."""
    path = recorded.get("path", "") if isinstance(recorded, dict) else ""
    found = CHECKPOINT.fullmatch(Path(path).absolute().name)
    return int(found[1]) if found else None


def _maker(recorded: Any) -> dict[str, Any] | None:
    """The manifest of a file, or of the folder of files, that a stage read; None where that is no longer there."""
    prints = recorded if isinstance(recorded, list) else [recorded]
    paths = [one["path"] for one in prints if "path" in one]
    if len(paths) == 1 and (found := read_manifest(paths[0])):
        return found if same_content_of_all(recorded, fingerprint(paths[0])) else None
    folders = {Path(path).absolute().parent for path in paths}
    return read_manifest(folders.pop()) if len(folders) == 1 else None


def _of_data(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest of the data that a stage read."""
    return _maker(manifest.get("inputs", {}).get("data", []))
