"""Methods of this stage that make something else than a model of the rows: the contract, and the call of one."""

import contextlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from data_common.calls import remote_code
from data_common.calls.stage import Call
from data_common.files.atomic import WORK, check_writable, draft_of, manifest_path
from data_common.files.durable import discard
from data_common.files.manifest import Run
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.messages.visible import visible
from data_common.parallel import distributed
from data_common.rows import jsonl
from data_common.rows.jsonl import BadRowPolicy, Source

CONTRACT = "Conversion"  # the name of the class in a method.py
STEP = "tokens"


class BaseConversion(ABC):
    """What a folder of files is made by, of the rows and a tokenizer. Its keyword-only parameters are its keys."""

    shares_work: ClassVar[bool] = True

    @abstractmethod
    def check(self, source: Source, tokenizer: str, on_bad_row: BadRowPolicy) -> None:
        """Raises UserError for what is wrong with the first rows or the tokenizer, a folder or hub id."""

    @abstractmethod
    def prepare(self, source: Source, tokenizer: str, on_bad_row: BadRowPolicy, work: WorkFolder) -> None:
        """The long part of the work, in the step STEP of the folder; all processes of the run take part."""

    @abstractmethod
    def write(self, source: Source, folder: Path) -> dict[str, Any]:
        """Fill the empty folder, in one process. -> facts for the manifest."""


def convert(call: Call, *, on_bad_row: BadRowPolicy = "error") -> None:
    """Make the folder MODEL_OUT of the rows of IN and the tokenizer MODEL_IN. A dry run looks at the first rows.

    Args:
        on_bad_row: a broken row or one without the fields that are read stops the run, or is dropped and counted
    """
    conversion: BaseConversion = call.build()
    source_path, tokenizer, target = call.paths
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(jsonl.open_source(source_path, whole=not call.dry_run))
        inputs = {"data": [shard.name for shard in source.shards], "tokenizer": tokenizer}
        history = {"defaults": call.defaults, "versions": call.versions, "quick": call.dry_run, "paths": call.paths}
        run = Run(call.stage, call.method_name, call.config, inputs, target, **history)
        output = Path(target)
        work_path = output.parent / f"{output.name}{WORK}"
        if not call.dry_run and run.is_done():
            _clear(work_path)
            return
        _check_place(output, run)
        conversion.check(source, tokenizer, on_bad_row)
        if call.dry_run:
            return
        fingerprints = run.identity["inputs"]["data"]
        folder = WorkFolder(work_path, run.contents(), run, lambda: source.check_unchanged(fingerprints))
        work = stack.enter_context(folder.locked())
        conversion.prepare(source, tokenizer, on_bad_row, work)
        if not distributed.is_main():
            return
        draft = stack.enter_context(draft_of(target, folder=True))
        facts = conversion.write(source, draft)
        run.check_inputs()
        run.finish(draft, processes=distributed.size(), **facts)
    _clear(work_path)
    _summary(call, facts, run)


def _check_place(target: Path, run: Run) -> None:
    """Raises UserError where MODEL_OUT cannot be written, or holds what this call did not make."""
    check_writable(manifest_path(target))
    if not run.outdated and (target.is_file() or (target.is_dir() and any(target.iterdir()))):
        raise UserError(f"{target} exists and is no unchanged result of this call: remove it or choose another")


def _clear(work: Path) -> None:
    """Remove what a finished call needs no more."""
    for path in (work / STEP, work / ".lock"):
        discard(path)
    with contextlib.suppress(OSError):  # there is none, or it holds something else
        work.rmdir()


def _summary(call: Call, facts: dict[str, Any], run: Run) -> None:
    counts = {name.replace("_", " "): value for name, value in facts.items() if value and isinstance(value, int)}
    print(f"{call.method_name}: " + ", ".join(f"{name} {value:,}" for name, value in counts.items()))
    if facts.get("dropped_rows"):
        print(f"  dropped {sum(facts['dropped_rows'].values()):,} bad rows: {facts['dropped_rows']}")
    remote_code.summary(call.config)
    print(f"  wrote {visible(run.output)} in {run.seconds():.1f} s")
