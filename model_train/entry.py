"""Training: from rows in file order and a model to a trained model, a folder that appears when it is complete.

A method that makes other files of the rows is a `model_train.conversion`.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

from data_common.calls import remote_code
from data_common.calls.cli import main
from data_common.calls.config import Key, Positive, keys_of
from data_common.calls.stage import Call, Stage
from data_common.files.contents import weights_of
from data_common.files.manifest import Run
from data_common.messages.visible import visible
from data_common.parallel import distributed
from data_common.rows import jsonl
from data_common.rows.jsonl import BadRowPolicy
from model_train import conversion
from model_train.resuming import check_place, working_in
from model_train.training import TrainingRows


def run(
    call: Call,
    *,
    score_field: str | None = "score",
    weight_field: str | None = None,
    max_rows: Positive | None = None,
    on_bad_row: BadRowPolicy = "error",
    resume: str = "auto",
) -> None:
    """Train MODEL_IN on the rows of IN in their order. A dry run looks at the first ones, and at what it needs.

    Args:
        score_field: field whose mean over the rows of a step is shown, where the file has it; null = none
        weight_field: field with the weight (0 or more) of a row in the loss: that of an optimizer step is the mean over
            its tokens, each weighted as its row; null = all weigh the same
        max_rows: train on the first rows only; null = all
        on_bad_row: a broken row or one without the fields that are read stops the run, or is dropped and counted
        resume: auto goes on from the last checkpoint of an interrupted run of the same call; never starts over, and
            replaces the model of another call; else the path of a checkpoint
    """
    training = call.build()
    source_path, model_in, model_out = call.paths
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(jsonl.open_source(source_path, whole=not call.dry_run))
        inputs = {"data": [shard.name for shard in source.shards], "model": model_in} | training.inputs()
        config = {key: value for key, value in call.config.items() if key != "resume"}
        history = {"defaults": call.defaults, "versions": call.versions, "quick": call.dry_run, "paths": call.paths}
        stage_run = Run(call.stage, call.method_name, config, inputs, model_out, **history)
        rows = TrainingRows(source, stage_run.identity["inputs"]["data"], on_bad_row, max_rows, weight_field)
        if call.dry_run:
            check_place(stage_run, resume)
        elif stage_run.is_done():
            return
        else:
            work, checkpoint = stack.enter_context(working_in(stage_run, resume))
        from model_train.checks import check  # late: it takes seconds to import

        check(training, rows, score_field, model_in)
        if call.dry_run:
            return
        from model_train.run import train
        from model_train.trainer import LAST

        facts = train(training, rows, score_field, model_in, work, checkpoint, stage_run)
        if not distributed.is_main():
            return
        stage_run.finish(work, processes=distributed.size(), weights=weights_of(work), **facts)
    print(f"{call.method_name}: " + ", ".join(_fact(name, value) for name, value in facts.items() if value))
    if "averaged_steps" in facts:
        print(f"  {visible(model_out)} has the averaged weights, {visible(model_out)}/{LAST} the last ones")
    remote_code.summary(call.config)
    print(f"  wrote {visible(model_out)} in {stage_run.seconds():.1f} s")


def _fact(name: str, value: Any) -> str:
    number = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else visible(value)
    return f"{name.replace('_', ' ')} {number}"


def _runner(method: Callable) -> Callable[..., None]:
    """What runs a method of its contract."""
    return conversion.convert if method.__name__ == conversion.CONTRACT else run


def _keys(method: Callable, given: Mapping[str, Any]) -> dict[str, Key]:
    return keys_of(_runner(method))


def _run(call: Call, **keys: Any) -> None:
    _runner(call.method)(call, **keys)


PATHS, CONTRACTS = ("IN.jsonl", "MODEL_IN", "MODEL_OUT"), ("Training", conversion.CONTRACT)
STAGE = Stage("model_train", PATHS, CONTRACTS, _run, _keys, check=Call.build)
command = functools.partial(main, STAGE)

if __name__ == "__main__":
    sys.exit(command())
