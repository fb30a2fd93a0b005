"""What is wrong with the settings of an influence scorer, known before anything is tokenized or annotated."""

from pathlib import Path

from data_common.messages.errors import UserError
from data_common.models import loading
from data_common.models.checks import check_model, only_on_hub
from data_common.parallel import distributed
from data_common.rows.json_line import Text
from data_common.rows.jsonl import first_rows, open_source
from data_scoring.engines.influence import data_scorer
from data_scoring.engines.influence.settings import Influence
from data_scoring.engines.influence.tracking import chosen

FEWEST = 20  # rows, of which a tenth says something about the other scores


def check(settings: Influence, rows: int | None) -> None:
    """Raises UserError. rows: how many there are about; None = not known."""
    trust, checkpoint = settings.loading.trust_remote_code, settings.student.scorer_checkpoint
    if chosen(settings.tracking.report_to):
        from data_common.models.trainer_settings import check_account  # imports the Trainer

        check_account(settings.tracking.report_to)
    device = loading.pick_device(settings.loading.device)
    loading.pick_dtype(settings.loading.dtype, device, "float32")
    if checkpoint is not None:
        if not only_on_hub(checkpoint, data_scorer.FACTS):
            _, _, facts = data_scorer.load_reader(checkpoint, trust)
            data_scorer.shape_of(checkpoint, facts)
        return
    check_model(settings.annotator_model, settings.sampling.max_length, trust_remote_code=trust)
    with open_source(settings.target.target_data, whole=False, key="target_data") as source:
        first_rows(source, dict.fromkeys(settings.target.fields, Text))
    if rows is not None and rows > settings.sampling.proxy_size:
        check_scorer(settings)


def check_scorer(settings: Influence) -> None:
    """Raises UserError where no data scorer can be fitted: it is needed where there are more rows than proxy_size."""
    proxy_size, model = settings.sampling.proxy_size, settings.scorer_model
    check_rows(proxy_size)
    shared_batch(settings.student.scorer_batch_size)
    options = {"trust_remote_code": settings.loading.trust_remote_code, "backbone": True}
    try:
        check_model(model, settings.scorer_max_length, "scorer_max_length", **options)
    except UserError as error:
        if Path(model).is_dir() or model == settings.annotator_model:
            raise
        why = f"more than proxy_size={proxy_size} rows need it; scorer_model=null takes annotator_model"
        raise UserError(f"scorer_model: {error} ({why})") from error


def check_rows(rows: int) -> None:
    """Raises UserError where there are too few annotated rows to fit a data scorer."""
    if rows < FEWEST:
        raise UserError(f"proxy_size: {rows} rows are too few to fit a data scorer (at least {FEWEST})")


def shared_batch(batch_size: int) -> int:
    """Samples of a batch for each process. Raises: UserError where they cannot be shared out equally."""
    if batch_size % distributed.size():
        raise UserError(
            f"scorer_batch_size={batch_size} cannot be shared out equally to {distributed.size()} processes"
        )
    return batch_size // distributed.size()
