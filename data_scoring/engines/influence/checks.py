"""What is wrong with the keys of an influence scorer, known before anything is tokenized or annotated."""

from pathlib import Path

from data_common.messages.errors import UserError
from data_common.models import loading
from data_common.models.checks import check_model, only_on_hub
from data_common.models.trainer_settings import check_account
from data_common.rows.json_line import Text
from data_common.rows.jsonl import first_rows, open_source
from data_scoring.engines.influence import data_scorer
from data_scoring.engines.influence.fitting import check_rows, shared_batch
from data_scoring.engines.influence.scorer import InfluenceScorer
from data_scoring.engines.influence.tracking import chosen


def check(keys: InfluenceScorer, rows: int | None) -> None:
    """Raises UserError. rows: how many there are about; None = not known."""
    trust = {"trust_remote_code": keys.trust_remote_code}
    chosen(keys.report_to)
    check_account(keys.report_to)
    device = loading.pick_device(keys.device)
    loading.pick_dtype(keys.dtype, device, "float32")
    if keys.scorer_checkpoint is not None:
        if not only_on_hub(keys.scorer_checkpoint, data_scorer.FACTS):
            _, _, facts = data_scorer.load_reader(keys.scorer_checkpoint, keys.trust_remote_code)
            data_scorer.shape_of(keys.scorer_checkpoint, facts)
        return
    check_model(keys.annotator_model, keys.max_length, **trust)
    with open_source(keys.target_data, whole=False, key="target_data") as source:
        first_rows(source, dict.fromkeys(keys.target_fields, Text))
    if rows is not None and rows > keys.proxy_size:
        check_scorer(keys)


def check_scorer(keys: InfluenceScorer) -> None:
    """Raises UserError where no data scorer can be fitted: it is needed where there are more rows than proxy_size."""
    check_rows(keys.proxy_size)
    shared_batch(keys.scorer_batch_size)
    model, length = keys.scorer_model, keys.scorer_max_length
    try:
        check_model(model, length, "scorer_max_length", trust_remote_code=keys.trust_remote_code, backbone=True)
    except UserError as error:
        if Path(model).is_dir() or model == keys.annotator_model:
            raise
        why = f"more than proxy_size={keys.proxy_size} rows need it; scorer_model=null takes annotator_model"
        raise UserError(f"scorer_model: {error} ({why})") from error
