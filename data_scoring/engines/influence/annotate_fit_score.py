"""The steps from a corpus to scores: tokenize -> proxy -> annotate -> measures -> fit -> score, each in its own folder.

annotate   gamma.npy sweep/          the scores of the samples of the proxy rows; what every visited step gave
measures                             what these scores go along with
fit        scorer/ fit.png fit.json  the data scorer and how well it predicts
score      part-00000.npy ...        the prediction for every sample

The first two are in tokenization.py.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_common.calls import remote_code
from data_common.calls.progress import Progress
from data_common.files.atomic import save_array
from data_common.files.work_folder import WorkFolder, remove
from data_common.messages.visible import visible
from data_common.models import loading, special_tokens
from data_common.models.samples import Samples
from data_common.models.settings import attention_identity
from data_common.models.special_tokens import Special
from data_common.models.tokens import check_ids
from data_common.parallel import distributed
from data_common.rows.chunks import Document, write_chunks
from data_scoring.engines.influence import data_scorer
from data_scoring.engines.influence.annotation import annotate
from data_scoring.engines.influence.checks import check_scorer
from data_scoring.engines.influence.data_scorer import DataScorer
from data_scoring.engines.influence.measures import measure
from data_scoring.engines.influence.models import Models
from data_scoring.engines.influence.reliability import judged
from data_scoring.engines.influence.settings import Formula, Influence
from data_scoring.engines.influence.tokenization import (
    Tokenized,
    draw_proxy,
    of_rows,
    tokenize,
    tokenize_for,
    weighted_mean,
)
from data_scoring.engines.parts import PART, compute_sample_parts, sample_part_files


@dataclass
class Scores:
    """The score of every row, (rows,), NaN for one without a token to predict, and what there is to tell of it."""

    scores: np.ndarray | None = None  # None: the call stops before there are any
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def tell(self, facts: Mapping[str, Any], warnings: Iterable[str] = ()) -> None:
        """Add facts and warnings."""
        self.facts |= facts
        self.warnings += warnings


def rewritten(settings: Influence, texts: Iterable[Document], total: int, work: WorkFolder) -> Path | None:
    """The step before all others with granularity: chunk. -> the file of chunks, which takes the place of the corpus.

    texts: (id, text) of the rows, `total` of them.
    """
    if not settings.chunks:
        return None
    trusted, max_length = settings.loading.trust_remote_code, settings.sampling.max_length
    checkpoint = settings.student.scorer_checkpoint
    if checkpoint is None:
        source, tokenizer = "annotator_model", loading.load_tokenizer(settings.annotator_model, trusted)
    else:  # as long as what it reads
        source, (_, tokenizer, facts) = "scorer_checkpoint", data_scorer.load_reader(checkpoint, trusted)
        max_length = data_scorer.shape_of(checkpoint, facts)["max_length"]

    def write(folder: Path) -> dict[str, int]:
        return {"chunks": write_chunks(texts, tokenizer, max_length, folder / "chunks.jsonl", total)}

    identity = {"max_length": max_length} | remote_code.identity(trusted)
    work.step("chunk", identity, ("data", "reading", source), write, alone=True)
    return work.path / "chunk" / "chunks.jsonl"


def annotate_fit_score(
    texts: Sequence[str], settings: Influence, formula: Formula, special: Special, work: WorkFolder
) -> Scores:
    """The score of every text. special: how text that spells special tokens is read."""
    if settings.student.scorer_checkpoint is not None:
        return _with_checkpoint(texts, settings, special, work)
    result, models = Scores(), Models(settings, special)
    fits = len(texts) > settings.sampling.proxy_size  # else all rows are annotated, and no data scorer is needed
    if fits:  # what is wrong with it is better known now than after the annotation
        check_scorer(settings)
    tokens = tokenize(texts, settings, models, fits, work)
    if not settings.chunks:  # chunks spell EOS on purpose
        result.tell(*special_tokens.about(tokens.spelled, len(texts), special))
    if settings.step == "tokenize":
        return result
    rows = draw_proxy(tokens.corpus.rows, settings.sampling.proxy_size, settings.seed, work)
    if settings.step == "proxy":
        return result
    annotated = of_rows(tokens.corpus, rows)
    gamma, facts = _annotate(tokens, annotated, models, formula, fits, work)
    result.tell(facts | measure(formula, texts, annotated, work))
    labels = weighted_mean(gamma, annotated, len(texts))
    if settings.step == "annotate":
        return result
    if not fits:
        if settings.step == "score":
            print(f"proxy_size holds all {len(texts):,} rows: their annotation is the score")
            result.scores = labels
        return result
    scorer = _fit(of_rows(tokens.scorer, rows), labels, models, formula, work, result)
    if settings.step == "fit":
        return result
    checkpoint = str(work.path / "fit" / "scorer")
    result.tell({"scored_by": checkpoint})
    if scorer is None:
        scorer, tokenizer, _ = data_scorer.load(checkpoint, settings.loading.trust_remote_code)
        check_ids(tokens.scorer, tokenizer, scorer.backbone, "sample")
    after = ("tokenize", "fit")
    result.scores = _score(scorer, tokens.scorer, len(texts), settings, settings.scorer_max_length, after, work)
    return result


def _with_checkpoint(texts: Sequence[str], settings: Influence, special: Special, work: WorkFolder) -> Scores:
    """Tokenize and score only, as the fitted data scorer wants it."""
    result, checkpoint = Scores(), settings.student.scorer_checkpoint
    scorer, tokenizer, facts = data_scorer.load(checkpoint, settings.loading.trust_remote_code)
    special_tokens.read_as(tokenizer, special)
    shape = data_scorer.shape_of(checkpoint, facts)
    print(f"scoring with {visible(checkpoint)}: {facts}")
    samples, spelled = tokenize_for(texts, settings, tokenizer, special, shape, work)
    result.tell(*special_tokens.about(spelled, len(texts), special))
    if settings.step != "score":
        return result
    result.tell({"scored_by": checkpoint, "data_scorer": facts})
    _judge(facts, result)
    check_ids(samples, tokenizer, scorer.backbone, "sample")
    after = ("tokenize", "scorer_checkpoint")
    result.scores = _score(scorer, samples, len(texts), settings, facts["max_length"], after, work)
    return result


def _annotate(
    tokens: Tokenized, annotated: Samples, models: Models, formula: Formula, fits: bool, work: WorkFolder
) -> tuple[np.ndarray, dict[str, Any]]:
    """-> (the score of each of the annotated samples, facts)."""
    settings = models.settings
    identity = {name: value for name, value in vars(settings.simulation).items() if name != "batch_tokens"}
    identity |= {"dtype": settings.loading.dtype} | formula.identity() | attention_identity(settings.loading.attention)

    def compute(folder: Path) -> dict[str, Any]:
        path = folder / "gamma.npy"
        if not path.exists():  # else a run was killed behind it
            if fits:  # its weights too are better tried before the annotation
                models.new_scorer  # noqa: B018 (loaded here)
            corpora = tokens.corpus, annotated, tokens.target
            options = {"autocast": torch.bfloat16 if settings.loading.dtype == "bfloat16" else None}
            options["tracking"] = settings.tracking
            gamma = annotate(models.annotator, *corpora, settings.simulation, formula, folder, **options)
            models.release_annotator()
            if distributed.is_main():
                save_array(path, gamma)
            distributed.wait()
        if distributed.is_main():
            remove(folder / "states")
        return {"annotated_samples": len(np.load(path))}

    facts = work.step("annotate", identity, ("tokenize", "proxy", "annotator_model"), compute)
    return np.load(work.path / "annotate" / "gamma.npy"), facts


def _fit(
    samples: Samples, labels: np.ndarray, models: Models, formula: Formula, work: WorkFolder, result: Scores
) -> DataScorer | None:
    """Fit the data scorer to the labels of the rows, (rows,). -> it; None where it was fitted before.

    samples: those of the annotated rows, as the data scorer reads them.
    """
    settings, student, fitted = models.settings, models.settings.student, []

    def compute(folder: Path) -> dict[str, Any]:
        from data_scoring.engines.influence.fitting import fit  # imports the Trainer

        scorer, tokenizer = models.new_scorer
        check_ids(samples, tokenizer, scorer.backbone, "sample")
        device = loading.pick_device(settings.loading.device)
        facts = fit(
            scorer,
            samples,
            labels[samples.rows],
            folder,
            epochs=student.scorer_epochs,
            learning_rate=student.scorer_learning_rate,
            batch_size=student.scorer_batch_size,
            seed=settings.seed,
            device=device,
            precision=loading.pick_dtype(settings.loading.dtype, device, "float32"),
            report_to=settings.tracking.report_to,
            project=settings.tracking.project,
        )
        if distributed.is_main():
            scorer.save(folder / "scorer", tokenizer, _about_scorer(settings, formula, models.special) | facts)
            remove(folder / "checkpoints")
        fitted.append(scorer.as_loaded(settings.scorer_max_length))
        return {name: facts[name] for name in ("spearman", "pearson", "top_30_overlap", "best_epoch")}

    names = ("scorer_epochs", "scorer_learning_rate", "scorer_batch_size")
    identity = {"scorer_max_length": settings.scorer_max_length} | {name: getattr(student, name) for name in names}
    identity |= {"seed": settings.seed, "dtype": settings.loading.dtype}
    result.tell(work.step("fit", identity, ("annotate", "scorer_model"), compute))
    _judge(json.loads((work.path / "fit" / "fit.json").read_text(encoding="utf-8")), result)
    return fitted[0] if fitted else None


def _about_scorer(settings: Influence, formula: Formula, special: Special) -> dict[str, Any]:
    """What somebody needs to know who scores with this data scorer."""
    simulation = settings.simulation
    return {
        "method": formula.method,
        "max_length": settings.scorer_max_length,
        "annotator_model": settings.annotator_model,
        "target_data": settings.target.target_data,
        "steps": simulation.steps,
        "learning_rate": simulation.learning_rate,
        "interval": simulation.interval,
        "long_rows": settings.sampling.long_rows,
    } | special_tokens.identity_of(special)


def _judge(fitted: Mapping[str, Any], result: Scores) -> None:
    """Tell how far the data scorer can be trusted; fitted: what fit.json holds."""
    facts, warnings = judged(fitted)
    result.tell(facts, warnings)
    for warning in warnings if distributed.is_main() else ():
        print(f"warning: {warning}")


def _score(
    scorer: DataScorer,
    samples: Samples,
    rows: int,
    settings: Influence,
    max_length: int,
    after: Sequence[str],
    work: WorkFolder,
) -> np.ndarray:
    """The prediction for every row, (rows,); NaN for rows without a token to predict. max_length: of the samples."""
    device = loading.pick_device(settings.loading.device)
    precision = loading.pick_dtype(settings.loading.dtype, device, "float32")
    batch_tokens = settings.student.scorer_batch_tokens
    if batch_tokens is None:
        batch_tokens = max_length if device.type == "cpu" else settings.simulation.batch_tokens
    groups = [np.arange(first, min(first + PART, len(samples))) for first in range(0, len(samples), PART)]

    def compute(folder: Path) -> dict[str, Any]:
        autocast, network = precision if precision.itemsize == 2 else None, scorer.to(device)

        def predict(part: np.ndarray, progress: Progress) -> np.ndarray:
            return data_scorer.predict(network, samples.take(part), batch_tokens, autocast, progress)

        compute_sample_parts(folder, groups, samples.lengths, predict, "scoring")
        return {"samples": len(samples)}

    work.step("score", {"batch_tokens": batch_tokens, "dtype": str(precision)}, after, compute)
    files = sample_part_files(work.path / "score", len(groups))
    return weighted_mean(np.concatenate([np.load(file) for file in files]), samples, rows)
