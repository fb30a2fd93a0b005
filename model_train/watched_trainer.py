"""The Hugging Face Trainer with what this stage adds to it, by its documented hooks."""

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer
from transformers.optimization import get_wsd_schedule

from model_train.settings import Schedule
from model_train.train_log import Watch


class WatchedTrainer(Trainer):
    """The Trainer, with the tokens, scores and losses of its steps in the log; by its documented hooks."""

    watch: Watch
    use_cache: bool | None  # of the model; the Trainer switches it off
    schedule: Schedule

    def create_scheduler(self, num_training_steps: int, optimizer=None) -> torch.optim.lr_scheduler.LRScheduler:
        """That of transformers, where a decay to a minimum would have the warm-up begin at the minimum: from 0 here."""
        warmup, optimizer = self.args.get_warmup_steps(num_training_steps), optimizer or self.optimizer
        decay = self.schedule.decay(num_training_steps, warmup)
        if decay is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        length, shape = decay
        end = self.schedule.end(self.args.learning_rate)
        ends = get_wsd_schedule(optimizer, warmup, length, num_training_steps, decay_type=shape, min_lr_ratio=end)
        factor = ends.lr_lambdas[0]
        self.lr_scheduler = LambdaLR(optimizer, lambda step: step / warmup if step < warmup else factor(step))
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the model shall be used, not as it is trained."""
        trained, self.model.config.use_cache = self.model.config.use_cache, self.use_cache
        try:
            super().save_model(output_dir, _internal_call)
        finally:
            self.model.config.use_cache = trained

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """Keeps the loss, on its device, until the next entry of the log."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.watch.losses[-1].append(loss)
        return loss

    def _issue_warnings_after_load(self, load_result) -> None:
        """Says nothing of weights that are another's, as those of an output layer which is the embedding."""
        missing = [name for name in load_result.missing_keys if name not in self.model.all_tied_weights_keys]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Raises: UserError where loss or gradient is no number."""
        if "loss" in logs:
            self.watch.check_finite(logs, self.state.global_step)
            logs = logs | self.watch.numbers(self.state.global_step)
        super().log(logs, start_time)
