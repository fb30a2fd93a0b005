"""Training: from rows in file order and a model to a trained model, a folder that appears when it is complete."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from common import jsonl
from common.cli import Call, Stage, main
from common.errors import UserError
from common.files import partial_path, replace_folder
from common.jsonl import BadRowPolicy
from common.manifest import Run, read_manifest
from common.texts import Texts

RECORD = "run.json"  # in the folder of a run: which call it belongs to


def run(
    call: Call,
    *,
    text_field: str | list[str] = "text",
    max_rows: Annotated[int, Meta(ge=1)] | None = None,
    on_bad_row: BadRowPolicy = "error",
    resume: Literal["auto", "never"] = "auto",
) -> None:
    """Train MODEL_IN on the rows of IN in their order.

    Args:
        text_field: text field of a row, or a list of them, joined by newlines
        max_rows: train on the first rows only; null = all
        on_bad_row: a broken row or one without text field stops the run, or is dropped and counted
        resume: auto goes on from the last checkpoint of an interrupted run of the same call; never starts anew
    """
    source_path, model_in, model_out = call.paths
    with jsonl.open_source(source_path) as source:
        inputs = {"data": [shard.name for shard in source.shards], "model": model_in}
        config = {key: value for key, value in call.config.items() if key != "resume"}
        stage_run = Run(call.stage, call.method_name, config, inputs, model_out)
        if stage_run.is_done():
            return
        check_output(Path(model_out), stage_run.identity)
        texts = Texts(source, text_field, on_bad_row, max_rows=max_rows)
        if not len(texts):
            raise UserError(f"{source_path}: no row has any text")
        work = work_folder(Path(model_out), stage_run.identity, resume)
        facts = call.method(texts, model_in, work, **call.method_keys)
        replace_folder(work, Path(model_out))
        rows = {"rows": len(texts.rows), "rows_without_text": int(texts.blank.sum())}
        stage_run.finish(**rows, **source.counts(), **facts)
    skipped = f" ({rows['rows_without_text']:,} without text)" if rows["rows_without_text"] else ""
    print(f"{call.method_name}: {rows['rows']:,} rows{skipped}, " + ", ".join(map(_fact, facts.items())))
    print(f"  wrote {model_out} in {stage_run.seconds():.1f} s")


def check_output(folder: Path, identity: Mapping[str, Any]) -> None:
    """Raises UserError where a folder (or file) is in the way that this stage did not make: it is never deleted.

    A run that was killed between putting its folder in place and writing the manifest is known by its record.
    """
    occupied = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    ours = (read_manifest(folder) or {}).get("stage") == STAGE.name or is_of_this_call(folder, identity)
    if occupied and not ours:
        raise UserError(f"{folder} exists and is no unchanged result of {STAGE.name}: remove it or choose another")


def work_folder(output: Path, identity: Mapping[str, Any], resume: str) -> Path:
    """The folder beside `output` that a run works in: kept from an interrupted run of the same call, else new."""
    work = partial_path(output)
    try:
        if resume == "never" or not is_of_this_call(work, identity):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            (work / RECORD).write_text(json.dumps(identity, indent=2), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error
    return work


def is_of_this_call(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether `folder` was begun by a run of the same data, model, method and configuration."""
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8")) == identity
    except (OSError, ValueError):
        return False


def _fact(item: tuple[str, Any]) -> str:
    name, value = item
    number = f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else value
    return f"{name.replace('_', ' ')} {number}"


STAGE = Stage("model_train", ("IN.jsonl", "MODEL_IN", "MODEL_OUT"), "train", run)

if __name__ == "__main__":
    sys.exit(main(STAGE))
