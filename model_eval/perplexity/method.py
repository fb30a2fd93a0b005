"""Perplexity and bits per byte of held-out text, each token predicted exactly once.

Bits per byte as in The Pile (arXiv 2101.00027, section 3.1): it compares models of different tokenizers.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from data_common.calls.config import Attention, Positive, Seed, keys_of
from data_common.chat.settings import TextFormat
from data_common.files.fingerprint import fingerprint
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.models.special_tokens import Special
from data_common.rows.jsonl import BadRowPolicy, Rows, Source, open_source
from data_common.rows.shards import stem
from data_common.rows.texts import Texts, first_texts
from data_common.rows.whole_row import WholeRow
from model_eval.evaluation import Evaluation

ABOUT = {
    "family": "held-out text",
    "needs": "held-out text",
    "cost": "one forward pass",
    "formula": "exact",
}
FIELD = TextFormat()  # the text of a row is a field of it


def evaluate(
    model: str,
    work: WorkFolder,
    *,
    data: str | list[str],
    text_field: str | list[str] = "text",
    reading: TextFormat = FIELD,
    checkpoints: bool = False,
    max_length: Annotated[int, Meta(ge=2)] = 1024,
    batch_tokens: Positive = 4096,
    bootstrap_iterations: Annotated[int, Meta(ge=0)] = 1000,
    seed: Seed = 10,
    device: str = "auto",
    dtype: Literal["auto", "float64", "float32", "bfloat16"] = "auto",
    on_bad_row: BadRowPolicy = "error",
    attention: Attention = "sdpa",
    special_tokens_in_text: Special = "text",
    trust_remote_code: bool = False,
) -> Evaluation:
    """The mean loss of `model` on every file of `data`, as bits per byte, nats per token and perplexity.

    A document is BOS + its text; EOS is neither predicted nor counted. With a tokenizer that has no BOS the first
    token of a document is context only, while its bytes do count.

    Args:
        data: held-out text; JSONL file, glob or folder, or a list of them; every file is a task of its own
        text_field: text field of a row, or a list of them, joined by newlines
        checkpoints: true evaluates every checkpoint-* folder in MODEL too, and draws the curve
        max_length: tokens of a window; a longer document is read in windows that overlap by one token
        batch_tokens: padded tokens of one forward pass; memory against speed, not the result
        bootstrap_iterations: resamples of the documents for the confidence intervals; 0 = none
        seed: of the resampling
        device: auto, cpu, cuda, cuda:1, mps, ...
        dtype: of the weights; auto is bfloat16 where the device computes in it natively, else float32
        on_bad_row: a broken row or one without text stops the run, or is dropped and counted
        attention: sdpa (eager where the architecture has no sdpa) or eager
        special_tokens_in_text: how text that spells a special token, such as </s>, is read: as text or as tokens
        trust_remote_code: true runs Python code that comes with a model or tokenizer; false refuses what needs it

    Returns: by file's name without .jsonl: metric `bits_per_byte`, value, stderr (over documents), n (documents),
        loss (nats per token), perplexity (exp of loss), intervals (95 %, over documents), tokens (predicted), bytes
        (UTF-8), max_length, items (a digest), dropped_rows, rows_that_spell_special_tokens (where there are any);
        as a note: checkpoints, folder -> {step, tasks}.
    Raises: UserError for missing files, bad rows, and a model that cannot be loaded.
    """
    files = inputs({"data": data})["data"]
    names = check_names(files)
    folders = checkpoint_folders(Path(model)) if checkpoints else {}
    with ExitStack() as stack:
        sources = [stack.enter_context(open_source(file, key="data")) for file in files]
        texts = [checked_texts(source, text_field, on_bad_row, reading.reader(source)) for source in sources]
        from model_eval.perplexity.steps import Steps  # imports torch

        sizes, corpora = (max_length, batch_tokens), dict(zip(names, texts, strict=True))
        special = reading.special(special_tokens_in_text, ())
        steps = Steps(model, corpora, *sizes, device, dtype, attention, special, trust_remote_code)
        read = {"text_field": text_field, "on_bad_row": on_bad_row} | _conversations(reading)
        drawing = {"iterations": bootstrap_iterations, "seed": seed}
        tasks = steps.results(work, model, "", ("model",), read, drawing)
        curve = {}
        for step, folder in folders.items():
            found = steps.results(work, str(folder), f"{folder.name}.", (), read, drawing)
            curve[folder.name] = {"step": step, "tasks": found}
    settings = {"settings": {"dtype": str(steps.dtype).removeprefix("torch.")}}
    if not curve:
        return Evaluation(tasks, settings)
    from model_eval.perplexity.curve import draw_curve

    draw_curve(curve, work.path / "curve.png")
    return Evaluation(tasks, {"checkpoints": curve} | settings)


def check(model: str, keys: dict[str, Any]) -> None:
    """Raises UserError for the first rows of a file, for checkpoints that are not there, for model or device."""
    files, on_bad_row = inputs(keys)["data"], keys["on_bad_row"]
    check_names(files)
    if keys["checkpoints"]:
        checkpoint_folders(Path(model))
    for file in files:
        with open_source(file, whole=False) as source:
            first = first_texts(source, keys["text_field"], on_bad_row, reader=_reading(keys).reader(source))
            check_blank(source, *first, on_bad_row)
    from data_common.models import loading
    from data_common.models.checks import check_model

    loading.pick_dtype(keys["dtype"], loading.pick_device(keys["device"]))
    check_model(model, trust_remote_code=keys["trust_remote_code"])


def check_names(files: list[str]) -> list[str]:
    """The names of the tasks. Raises: UserError for two of one name."""
    names = [stem(file) for file in files]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two files of data are called {twice}: rename one, or evaluate them one at a time")
    return names


def _reading(keys: dict[str, Any]) -> TextFormat:
    return TextFormat(**{name: keys[name] for name in keys_of(TextFormat) if name in keys})


def _conversations(reading: TextFormat) -> dict[str, Any]:
    """What results depend on where rows are conversations."""
    contents = {name: fingerprint(path).get("xxh3", path) for name, path in reading.inputs().items()}
    return {} if reading.text_format is None else {"text_format": reading.spelled()} | contents


def inputs(keys: dict[str, Any]) -> dict[str, Any]:
    """The files of `data`, in order; the tokenizer of a chat template. Raises: UserError where nothing is there."""
    paths = [keys["data"]] if isinstance(keys["data"], str) else keys["data"]
    with ExitStack() as stack:
        sources = [stack.enter_context(open_source(path, whole=False, key="data")) for path in paths]
        return {"data": [shard.name for source in sources for shard in source.shards]} | _reading(keys).inputs()


def checked_texts(
    source: Source, text_field: str | list[str], on_bad_row: BadRowPolicy, reader: WholeRow | None = None
) -> Texts:
    """The texts of a file, all rows checked. Raises: UserError at a bad row (unless dropped), or where none is left."""
    texts = Texts(source, text_field, on_bad_row, reader=reader)
    check_blank(source, texts.rows, texts.blank, on_bad_row)
    if not len(texts):
        raise UserError(f"{source.path}: no row has any text")
    return texts


def check_blank(source: Source, rows: Rows, blank: np.ndarray, on_bad_row: BadRowPolicy) -> None:
    """Raises UserError for the first row without text, unless it is dropped. blank: (rows,)."""
    if blank.any() and on_bad_row == "error":
        raise UserError(f"{source.place(int(rows.start[np.argmax(blank)]))}: no text")


def checkpoint_folders(run: Path) -> dict[int, Path]:
    """Optimizer step -> folder `checkpoint-STEP` of a run. Raises: UserError if no checkpoint is there."""
    found = {int(path.name.split("-")[1]): path for path in run.glob("checkpoint-*") if path.name[11:].isdecimal()}
    if not found:
        raise UserError(f"{run} has no checkpoint-* folder: train with a save_steps below the number of its steps")
    return dict(sorted(found.items()))


evaluate.shares_work = True
