"""How the data of a model was made, from the manifests that it and its data carry."""

from pathlib import Path
from typing import Any

from common.manifest import read_manifest

STAGES = {"data_scoring": "scoring", "data_selection": "selection", "data_ordering": "ordering"}


def provenance(model: str) -> dict[str, Any]:
    """Of a model that this project trained: training_seed, scoring, selection, ordering, selection_ratio (0 to 1).

    The ratio is rows out over rows in of all selections from the data of the model back to the first data without a
    manifest, 1 where nothing on that way selects. What no manifest tells is left out.
    """
    manifest = read_manifest(model)
    if manifest is None or manifest.get("stage") != "model_train":
        return {}
    facts: dict[str, Any] = {"training_seed": manifest.get("seed")}
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


def _of_data(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of the data that a stage read: that of the file, or of the folder of its shards."""
    shards = [one["path"] for one in manifest.get("inputs", {}).get("data", []) if "path" in one]
    if len(shards) == 1 and (found := read_manifest(shards[0])):
        return found
    folders = {Path(shard).absolute().parent for shard in shards}
    return read_manifest(folders.pop()) if len(folders) == 1 else None
