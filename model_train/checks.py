"""What is wrong with a training, known before anything is tokenized: rows, tokenizer, model, device, trackers."""

from data_common.models import loading
from data_common.models.checks import only_on_hub
from data_common.rows.json_line import Number
from data_common.rows.jsonl import first_row, first_rows, open_source
from model_train.architectures import is_architecture, learning_rate_of, load_for_training, load_tokenizer
from model_train.continuing import check_alike
from model_train.tokenized_corpus import check_first, has_field
from model_train.trainer import check_trackers
from model_train.training import BaseTraining, TrainingRows


def check(training: BaseTraining, rows: TrainingRows, score_field: str | None, model_in: str) -> None:
    """Raises UserError. No weights are loaded; what only the hub has is not looked into."""
    fields, _ = training.reading(rows.source)
    check_first(rows, fields, None)
    if score_field is not None and rows.max_rows is None and has_field(first_row(rows.source, "drop")[1], score_field):
        first_rows(rows.source, {score_field: Number}, rows.on_bad_row)
    check_trackers(training.report_to)
    precision = loading.pick_dtype(training.dtype, loading.pick_device(training.device))
    if training.learning_rate is None:
        learning_rate_of(model_in)
    tokenizer = None
    if (training.tokenizer is None and is_architecture(model_in)) or not only_on_hub(training.tokenizer or model_in):
        tokenizer = load_tokenizer(
            model_in, training.tokenizer, training.trust_remote_code, training.special_tokens_in_text
        )
        check_first(rows, fields, training.encoder(tokenizer), training.reads_whole_rows)
    if tokenizer is not None and (is_architecture(model_in) or not only_on_hub(model_in)):
        if (start := training.start()) is not None:
            check_alike(training, start, model_in, tokenizer, precision, training.special_tokens_in_text)
        else:
            shape = (training.max_length, training.from_scratch, training.attention, precision, training.seed)
            load_for_training(model_in, tokenizer, *shape, training.trust_remote_code, weights=False)
    if training.heldout_data is not None:
        with open_source(training.heldout_data, whole=False, key="heldout_data") as source:
            heldout = TrainingRows(source, [], rows.on_bad_row)
            encode = training.encoder(tokenizer) if tokenizer else None
            check_first(heldout, training.reading(source)[0], encode, training.reads_whole_rows)
