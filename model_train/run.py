"""One training run: tokenizer, model, tokens, sequences and scores put together for the Trainer."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data_common.files.manifest import Run, fingerprint
from data_common.models import loading
from data_common.models.special_tokens import as_meant
from data_common.models.tokens import check_ids
from data_common.parallel import distributed
from data_common.rows.jsonl import open_source
from model_train import resuming
from model_train.architectures import learning_rate_of, load_for_training, load_tokenizer
from model_train.batches import Batches
from model_train.continuing import check_alike
from model_train.special_ids import stop_ids, take_over
from model_train.tokenized_corpus import corpus_of, row_scores, row_weights
from model_train.train_log import Watch
from model_train.trainer import RunFolder, fit
from model_train.training import BaseTraining, TrainingRows


def train(
    training: BaseTraining,
    rows: TrainingRows,
    score_field: str | None,
    model_in: str,
    work: Path,
    checkpoint: Path | None,
    run: Run,
) -> dict[str, Any]:
    """Train the model `model_in` on `rows` and save it in the folder `work`. -> facts for the manifest.

    checkpoint: to resume from. run: the call, whose identity goes into the checkpoints.
    Raises: UserError for bad rows, a model that does not load or does not fit, and whatever stops the training.
    """
    special = as_meant(training.special_tokens_in_text, [shard.name for shard in rows.source.shards])
    tokenizer = load_tokenizer(model_in, training.tokenizer, training.trust_remote_code, special)
    device = loading.pick_device(training.device)
    precision = loading.pick_dtype(training.dtype, device)
    learning_rate = training.learning_rate or learning_rate_of(model_in)
    corpus = _first_alone(lambda: corpus_of(training, rows, tokenizer))
    start, from_scratch = training.start(), training.from_scratch
    if start is not None:
        check_alike(training, start, model_in, tokenizer, precision, special)
        model_in, from_scratch = str(start), False
    shape = (training.max_length, from_scratch, training.attention, precision, training.seed)
    model = load_for_training(model_in, tokenizer, *shape, training.trust_remote_code)
    check_ids(corpus, tokenizer, model, "document")
    for change in take_over(model, tokenizer, training.tokenizer is not None):
        if distributed.is_main():
            print(f"note: {change}, as the tokenizer says")
    model = training.adapted(model)
    if distributed.is_main() and (warning := training.warning(corpus, tokenizer, stop_ids(model))):
        print(f"warning: {warning}")
    scores = row_scores(rows, score_field, corpus.offsets) if distributed.is_main() else None
    sequences = training.sequences(corpus, training.max_tokens, training.epochs)
    unfinished = sequences.epochs % 1
    if sequences.epochs > 1 and unfinished and distributed.is_main():
        print(f"note: {sequences.epochs:.4g} passes: the training ends {unfinished:.1%} into the order of the file")
    lanes = training.gradient_accumulation_steps * distributed.size()
    weights = row_weights(rows, corpus.offsets)
    batches = Batches(sequences, training.batch_size, lanes, training.batch_sizes.changes(), weights)
    watch = Watch(batches, work, scores, lambda document: rows.source.place(int(corpus.offsets[document])))
    if distributed.is_main():
        _tell_sizes(watch)
    with _heldout(training, rows, tokenizer) as heldout:
        run.check_inputs()  # all of them have been read
        identity = resuming.identity_of(run)
        place = RunFolder(work, work.name.removeprefix(".").removesuffix(".partial"), identity, checkpoint, start)
        facts = fit(training, model, tokenizer, sequences, heldout, watch, place, device, precision, learning_rate)
    continued = {"continued_from": str(start)} if start else {}
    return dict(corpus.facts) | continued | facts | batches.facts()


def _tell_sizes(watch: Watch) -> None:
    """Where in the order other batch sizes begin."""
    for part in watch.batches.parts[1:]:
        sequences, step = watch.batches.sequences, part.step + 1
        first = int(sequences.owners(part.sequence)[:2][-1])  # the first token of a block is not predicted
        print(
            f"note: batch_size {part.batch_size} from step {step:,} of {watch.batches.steps:,} on, behind "
            f"{sequences.before(part.sequence):,} tokens, at {watch.place(first)}"
        )


@contextlib.contextmanager
def _heldout(training: BaseTraining, rows: TrainingRows, tokenizer) -> Iterator[Any]:
    """The sequences of heldout_data, or None."""
    if training.heldout_data is None:
        yield None
        return
    with open_source(training.heldout_data, key="heldout_data") as source:
        shards = [fingerprint(shard.name) for shard in source.shards]
        corpus = _first_alone(lambda: corpus_of(training, TrainingRows(source, shards, rows.on_bad_row), tokenizer))
        yield training.sequences(corpus, None, 1.0)


def _first_alone(work: Callable[[], Any]) -> Any:
    """What `work` gives: one process of a machine does it, the others wait and find it done."""
    if distributed.local_rank() > 0:
        distributed.wait()
        return work()
    result = work()
    distributed.wait()
    return result
