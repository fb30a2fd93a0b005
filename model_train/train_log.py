"""Watching a run: progress bar, printed log, train_log.jsonl, its figure, and a stop at the first loss that is NaN."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from data_common.calls.progress import Progress
from data_common.messages.errors import UserError
from data_common.parallel import distributed
from model_train import figure
from model_train.batches import Batches

LOG, PROGRESS = "train_log.jsonl", "progress.png"
CURVE = "curve.png"  # as older versions called the figure: a copy of it
AVERAGE = "average"  # before the names of what is measured of averaged weights
HELDOUT_AVERAGE = f"{AVERAGE}_heldout_loss"


class Watch(TrainerCallback):
    """Follows what each optimizer step learns: its tokens, the scores of its rows, its losses."""

    def __init__(
        self,
        batches: Batches,
        folder: Path,
        scores: np.ndarray | None = None,
        place: Callable[[int], str] = str,
    ):
        """batches: of the run. folder: for log and figure.

        scores: (documents,), NaN where there is none; None = no scores. place: document -> `FILE:LINE` of its row.
        """
        self.batches, self.folder, self.budget = batches, folder, batches.sequences.budget
        self.scores, self.place = scores, place
        self.averaged: list[int] = []  # steps whose weights are averaged
        self.tokens = 0
        self._reset()

    def _reset(self) -> None:
        """Start to count again, after an entry of the log."""
        self.since, self.before, self.weighted, self.weight = time.perf_counter(), self.tokens, 0.0, 0
        self.losses: list[list[torch.Tensor]] = []  # of each step, those of its micro-batches in this process

    def on_train_begin(self, args, state, control, **_: Any) -> None:
        """Go on with the log where the checkpoint ends."""
        entries = [entry for kept in state.log_history if (entry := entry_of(kept))]
        self.tokens = max((entry.get("tokens", 0) for entry in entries), default=0)
        self._reset()
        self.bar = Progress(desc="training", total=self.budget, initial=self.tokens, unit="token", unit_scale=True)
        if distributed.is_main():
            lines = "".join(json.dumps(entry) + "\n" for entry in entries)
            (self.folder / LOG).write_text(lines, encoding="utf-8")

    def on_step_begin(self, args, state, control, **_: Any) -> None:
        self.losses.append([])

    def on_step_end(self, args, state, control, **_: Any):
        """Every step that is saved is logged too, so that a resumed run has the same log."""
        documents, counts = self.batches.documents(state.global_step)
        self.tokens += int(counts.sum())
        self.bar.update(self.tokens - self.bar.n)
        if self.scores is not None:
            known = ~np.isnan(self.scores[documents])
            self.weighted += float(self.scores[documents[known]] @ counts[known])
            self.weight += int(counts[known].sum())
        control.should_log |= control.should_save
        return control

    def numbers(self, step: int) -> dict[str, float]:
        """What the entry of the log after `step` says beside the Trainer's own numbers."""
        speed = (self.tokens - self.before) / (time.perf_counter() - self.since)
        score = {"score": self.weighted / self.weight} if self.weight else {}
        size = {"batch_size": self.batches.size(step)} if len(self.batches.parts) > 1 else {}
        return {"tokens": self.tokens, **score, **size, "tokens_per_second": round(speed, 1)}

    def check_finite(self, logs: Mapping[str, float], step: int) -> None:
        """Raises UserError at a loss or gradient that is no number, with the step where it began and its rows.

        All processes call it with the same `logs`.
        """
        if np.isfinite([logs[name] for name in ("loss", "grad_norm") if name in logs]).all():
            return
        bad = np.array([not all(torch.isfinite(loss).all() for loss in losses) for losses in self.losses], float)
        distributed.add_up([bad])
        step = step - len(bad) + 1 + int(np.flatnonzero(bad)[0]) if bad.any() else step
        rows = self.batches.documents(step)[0]
        raise UserError(
            f"loss or gradient is no number at step {step}: look at its rows, {self.place(int(rows[0]))} to "
            f"{self.place(int(rows[-1]))}, or lower learning_rate"
        )

    def on_log(self, args, state, control, logs: dict[str, float], **_: Any) -> None:
        entry = entry_of(logs | {"step": state.global_step})
        if entry and distributed.is_main():
            with open(self.folder / LOG, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            left = (self.budget - self.tokens) / max(entry.get("tokens_per_second", 0), 1e-9)
            Progress.write(describe(entry, state.max_steps, left))
        if "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.4f}", refresh=False)
            self._reset()

    def on_evaluate(self, args, state, control, **_: Any) -> None:
        """Time that held-out data takes is not counted."""
        if self.tokens == self.before:
            self.since = time.perf_counter()

    def on_train_end(self, args, state, control, **_: Any) -> None:
        self.bar.close()

    def draw(self, history: Sequence[Mapping[str, float]]) -> None:
        """The figure of a finished run. history: all that the Trainer has logged."""
        entries = [entry for kept in history if (entry := entry_of(kept))]
        placed = [entry | {"tokens": self._tokens_at(entry["step"], entries)} for entry in entries]
        figure.draw(self.folder / PROGRESS, placed, [self._tokens_at(step, entries) for step in self.averaged])
        shutil.copyfile(self.folder / PROGRESS, self.folder / CURVE)

    def _tokens_at(self, step: int, entries: Sequence[Mapping[str, float]]) -> int:
        """Tokens of the first `step` steps: those that the log had last said, and those of the steps since."""
        known = [(entry["step"], entry["tokens"]) for entry in entries if "tokens" in entry and entry["step"] <= step]
        last, tokens = max(known, default=(0, 0))
        return tokens + sum(int(self.documents(number)[1].sum()) for number in range(last + 1, step + 1))


def entry_of(logs: Mapping[str, float]) -> dict[str, float] | None:
    """The entry of train_log.jsonl for what the Trainer logs; None for its summaries."""
    for name, logged in {"heldout_loss": "eval_heldout_loss", HELDOUT_AVERAGE: HELDOUT_AVERAGE}.items():
        if logged in logs:
            return {"step": logs["step"], name: logs[logged]}
    names = ("step", "tokens", "loss", "learning_rate", "grad_norm", "score", "batch_size", "tokens_per_second")
    return {name: logs[name] for name in names if name in logs} if "loss" in logs else None


def describe(entry: Mapping[str, float], steps: int, left: float) -> str:
    """An entry in one line. left: seconds."""
    if "heldout_loss" in entry:
        return f"  step {entry['step']:,} of {steps:,}: held-out loss {entry['heldout_loss']:.4f}"
    if HELDOUT_AVERAGE in entry:
        return f"  averaged weights: held-out loss {entry[HELDOUT_AVERAGE]:.4f}"
    forms = {"loss": "loss {:.4f}", "learning_rate": "lr {:.2e}", "grad_norm": "grad {:.2f}", "score": "score {:.4g}"}
    forms |= {"batch_size": "batch {:,}", "tokens": "{:,} tokens", "tokens_per_second": "{:,.0f} tok/s"}
    parts = [form.format(entry[name]) for name, form in forms.items() if name in entry]
    return f"  step {entry['step']:,} of {steps:,}: {', '.join(parts)}, {Progress.format_interval(left)} left"
