"""Fit a data scorer to annotated scores (PDS, arXiv 2410.07064; DELT, arXiv 2506.21545).

Scores are z-normalised and clipped to +-3; 90 % of the documents train the scorer by mean squared error, and the
epoch whose predictions have the best Spearman correlation with the scores of the other 10 % is taken.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from data_common.calls.progress import Progress
from data_common.files.atomic import save_figure, write_text
from data_common.files.contents import SEAL, broken, seal, unreadable
from data_common.messages.errors import UserError
from data_common.models.samples import Samples
from data_common.models.tokens import TokenStore
from data_common.models.trainer_settings import EvaluationBar, TrainingBar, trainer_arguments
from data_common.parallel import distributed
from data_scoring.engines.influence.checks import check_rows, shared_batch
from data_scoring.engines.influence.data_scorer import DataScorer, to_batch

CLIP = 3.0  # standard deviations
WARMUP_STEPS = 10
TOP = 0.3
RECIPE = {  # of TrainingArguments
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "eval_strategy": "steps",
    "save_strategy": "steps",
    "save_total_limit": 2,  # the best and the last
    "load_best_model_at_end": True,
    "metric_for_best_model": "spearman",
    "greater_is_better": True,
    "logging_steps": 10,
}


class EpochLines(TrainerCallback):
    """One printed line an epoch, in place of the Trainer's many."""

    def on_evaluate(self, args, state, control, metrics=None, **_: Any) -> None:
        """Epochs are counted by evaluations: `fit` has one after each."""
        epoch = state.global_step // args.eval_steps
        if distributed.is_main():
            spearman, loss = metrics["eval_spearman"], metrics["eval_loss"]
            Progress.write(f"  epoch {epoch}: Spearman {spearman:.3f}, loss {loss:.4f} on the validation documents")


class SealCheckpoints(TrainerCallback):
    """Brings each checkpoint to the disk, and notes what is in it."""

    def on_save(self, args, state, control, **_: Any) -> None:
        """Called in every process when its part is written."""
        distributed.wait()
        if distributed.is_main():
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        distributed.wait()


class Annotated(torch.utils.data.Dataset):
    """(token ids, normalised score) of the chosen documents; the tokens stay on disk until they are asked for."""

    def __init__(self, store: TokenStore, scores: np.ndarray, chosen: np.ndarray):
        """scores: (n,), of every document of the store. chosen: (m,), document numbers in the order wanted."""
        self.store, self.scores, self.chosen = store, scores.astype(np.float32), chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.float32]:
        document = self.chosen[number]
        return self.store[document], self.scores[document]


def collate(samples: Sequence[tuple[np.ndarray, np.float32]]) -> dict[str, torch.Tensor]:
    """A batch for `DataScorer.forward`, labels included."""
    documents, scores = zip(*samples, strict=True)
    return to_batch(documents) | {"labels": torch.tensor(scores)}


def fit(
    scorer: DataScorer,
    store: Samples,
    scores: np.ndarray,
    folder: Path,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    device: torch.device,
    precision: torch.dtype,
    report_to: str = "none",
    project: str = "delt",
) -> dict[str, Any]:
    """Fit `scorer` in place to `scores` (n,), one a document of `store`. -> what `fit.json` holds.

    folder: for fit.json, fit.png, validation.jsonl, and for checkpoints, from which a run that was killed goes on; the
        caller removes these when the scorer is saved.
    epochs, learning_rate, batch_size: of AdamW, over all processes; the order of the documents depends on `seed` alone.
    precision: bfloat16 = autocast. report_to, project: the tracker.
    Raises: UserError for scores that are all equal or not finite, too few documents, a loss that is no number.
    """
    labels, mean, deviation = normalise(scores)
    generator = np.random.default_rng(seed)
    training, validation = split(store, generator)
    per_process = max(1, min(shared_batch(batch_size), len(training) // distributed.size()))
    steps = len(training) // (per_process * distributed.size())  # of one epoch
    rounds = [generator.permutation(training)[: steps * per_process * distributed.size()] for _ in range(epochs)]
    arguments = trainer_arguments(
        (folder / "checkpoints").absolute(),
        "data scorer",
        device,
        precision,
        project,
        num_train_epochs=1,  # `rounds` holds them all
        per_device_train_batch_size=per_process,
        per_device_eval_batch_size=per_process,
        learning_rate=learning_rate,
        warmup_steps=min(WARMUP_STEPS, steps * epochs // 10),
        eval_steps=steps,
        save_steps=steps,
        report_to=report_to,
        seed=seed,
        **RECIPE,
    )
    data = [Annotated(store, labels, chosen) for chosen in (np.concatenate(rounds), validation)]
    predicted, state = _train(scorer, arguments, *data)
    scorer.to(device).eval()
    result = agreement(predicted, labels[validation]) | {
        "best_epoch": state.best_global_step // steps,
        "epochs": _epochs(state.log_history),
        "train_documents": len(training),
        "validation_documents": len(validation),
        "validation_rows": len(np.unique(store.rows[validation])),
        "mean": mean,
        "standard_deviation": deviation,
    }
    if distributed.is_main():
        _write(folder, result, validation, labels[validation], predicted)
    distributed.wait()
    return result


def _train(
    scorer: DataScorer, arguments: TrainingArguments, training: Annotated, validation: Annotated
) -> tuple[np.ndarray, TrainerState]:
    """The scorer gets the weights of the best epoch. -> its predictions for `validation`, the history."""
    bars = TrainingBar("fitting the data scorer"), EvaluationBar("validating the data scorer")
    trainer = Trainer(
        scorer,
        arguments,
        data_collator=collate,
        train_dataset=training,
        eval_dataset=validation,
        compute_metrics=lambda evaluation: agreement(evaluation.predictions, evaluation.label_ids),
        callbacks=[StopOnNaN("scorer_learning_rate"), *bars, EpochLines(), SealCheckpoints()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(Path(arguments.output_dir)))
    predicted = trainer.predict(validation).predictions
    trainer.accelerator.unwrap_model(scorer, keep_fp32_wrapper=False)  # autocast is the caller's choice again
    return predicted, trainer.state


def normalise(scores: np.ndarray) -> tuple[np.ndarray, float, float]:
    """-> (z-scores clipped to +-3, mean of the scores, their standard deviation).

    Raises: UserError for scores that are not finite or all equal.
    """
    if not np.isfinite(scores).all():
        raise UserError(f"{(~np.isfinite(scores)).sum():,} of the annotated scores are no finite numbers")
    if np.ptp(scores) == 0:
        raise UserError(f"all annotated scores are {scores[0]:g}: there is nothing to fit")
    mean, deviation = float(scores.mean()), float(scores.std())
    return np.clip((scores - mean) / deviation, -CLIP, CLIP), mean, deviation


def split(store: Samples, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Documents for training and for validation (of 10 % of the rows; longest first: less padding), drawn at random.

    All samples of a row are on one side, for they share its score. Raises: UserError for fewer than 20 rows.
    """
    rows = np.unique(store.rows)
    check_rows(len(rows))
    validates = np.isin(store.rows, generator.permutation(rows)[: len(rows) // 10])
    training, validation = np.flatnonzero(~validates), np.flatnonzero(validates)
    return training, validation[np.argsort(-store.lengths[validation], kind="stable")]


def agreement(predicted: np.ndarray, annotated: np.ndarray) -> dict[str, float]:
    """Spearman and Pearson correlation, and which share of the annotated top 30 % is in the predicted top 30 %.

    Both (n,). Where all predictions or all scores are equal the correlations are 0: no document is told from another.
    """
    from scipy.stats import pearsonr, spearmanr

    constant = np.ptp(predicted) == 0 or np.ptp(annotated) == 0
    count = max(1, int(TOP * len(annotated)))
    tops = [np.argsort(-values, kind="stable")[:count] for values in (predicted, annotated)]
    return {
        "spearman": 0.0 if constant else float(spearmanr(predicted, annotated).statistic),
        "pearson": 0.0 if constant else float(pearsonr(predicted, annotated).statistic),
        "top_30_overlap": len(np.intersect1d(*tops)) / count,
    }


def _epochs(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    evaluations = [entry for entry in history if "eval_loss" in entry]
    return [{"spearman": entry["eval_spearman"], "validation_loss": entry["eval_loss"]} for entry in evaluations]


def _write(
    folder: Path, result: dict[str, Any], documents: np.ndarray, annotated: np.ndarray, predicted: np.ndarray
) -> None:
    """validation.jsonl, the figure, and last fit.json."""
    columns = (documents.tolist(), annotated.tolist(), predicted.tolist())
    rows = [dict(zip(("document", "annotated", "predicted"), row, strict=True)) for row in zip(*columns, strict=True)]
    write_text(folder / "validation.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    _plot(folder / "fit.png", annotated, predicted, result["spearman"])
    write_text(folder / "fit.json", json.dumps(result, indent=2) + "\n")


def _plot(path: Path, annotated: np.ndarray, predicted: np.ndarray, spearman: float) -> None:
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(5, 5), layout="constrained")
    axes = sheet.subplots()
    axes.scatter(annotated, predicted, s=6, alpha=0.5)
    axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)
    axes.set(xlabel="annotated (z-score)", ylabel="predicted", title=f"Validation documents: Spearman {spearman:.3f}")
    save_figure(path, sheet)


class StopOnNaN(TrainerCallback):
    """Ends the run at the first logged loss that is no number, rather than training on and saving nonsense."""

    def __init__(self, key: str):
        """key: name of the learning rate in the user's configuration."""
        self.key = key

    def on_log(self, args, state, control, logs=None, **_: Any) -> None:
        """Raises UserError with the step."""
        values = [logs[name] for name in ("loss", "grad_norm", "eval_loss") if name in logs]
        if not np.isfinite(values).all():
            raise UserError(f"loss or gradient is no number at step {state.global_step}: lower {self.key}")


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint in `folder`; those in whose writing a run was killed, or damaged ones, are removed.

    A killed run's lack the trainer's state, which is written last.
    """
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        complete = (checkpoint / "trainer_state.json").exists() and broken(checkpoint) in (None, SEAL)
        if complete and not unreadable(checkpoint):
            whole.append(checkpoint)
        else:
            shutil.rmtree(checkpoint, ignore_errors=True)  # another process may be at it too
    newest = max(whole, key=lambda checkpoint: int(checkpoint.name.split("-")[1]), default=None)
    return None if newest is None else str(newest)
