"""Training: from rows in file order and a model to a trained model, a folder that appears when it is complete."""

import contextlib
import sys
from typing import Any

from common import jsonl, remote_code, world
from common.cli import Call, Stage, main
from common.config import Positive
from common.jsonl import BadRowPolicy
from common.manifest import Run
from common.visible import visible
from model_train.base import TrainingRows
from model_train.resuming import working_in


def run(
    call: Call,
    *,
    score_field: str | None = "score",
    max_rows: Positive | None = None,
    on_bad_row: BadRowPolicy = "error",
    resume: str = "auto",
) -> None:
    """Train MODEL_IN on the rows of IN in their order.

    Args:
        score_field: field whose mean over the rows of a step is shown, where the file has it; null = none
        max_rows: train on the first rows only; null = all
        on_bad_row: a broken row or one without the fields that are read stops the run, or is dropped and counted
        resume: auto goes on from the last checkpoint of an interrupted run of the same call; never starts anew, and
            replaces the model of another call; else the path of a checkpoint
    """
    training = call.build()
    source_path, model_in, model_out = call.paths
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(jsonl.open_source(source_path))
        inputs = {"data": [shard.name for shard in source.shards], "model": model_in} | training.inputs()
        config = {key: value for key, value in call.config.items() if key != "resume"}
        history = {"defaults": call.defaults, "versions": call.versions}
        stage_run = Run(call.stage, call.method_name, config, inputs, model_out, **history)
        if stage_run.is_done():
            return
        work, checkpoint = stack.enter_context(working_in(stage_run, resume))
        from model_train.assembly import train  # late: it takes seconds to import

        rows = TrainingRows(source, stage_run.identity["inputs"]["data"], on_bad_row, max_rows)
        facts = train(training, rows, score_field, model_in, work, checkpoint, stage_run)
        if not world.is_main():
            return
        stage_run.finish(work, processes=world.size(), **facts)
    print(f"{call.method_name}: " + ", ".join(_fact(name, value) for name, value in facts.items() if value))
    remote_code.summary(call.config)
    print(f"  wrote {visible(model_out)} in {stage_run.seconds():.1f} s")


def _fact(name: str, value: Any) -> str:
    number = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value
    return f"{name.replace('_', ' ')} {number}"


STAGE = Stage("model_train", ("IN.jsonl", "MODEL_IN", "MODEL_OUT"), "Training", run, check=Call.build)

if __name__ == "__main__":
    sys.exit(main(STAGE))
