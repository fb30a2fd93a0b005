"""Solved examples in front of an item: how many, whether there are enough, and never the item itself."""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.samplers import ContextSampler, FirstNSampler
from lm_eval.api.task import Task

from data_common.messages.errors import UserError


def number_of_examples(task: Task, asked: int | None) -> int:
    """The rule of lm-eval: a number asked for wins over the task's own, unless that is 0; neither given means 0."""
    own = task.get_config("num_fewshot")
    return own or 0 if asked is None or own == 0 else asked


def settle(task: Task, asked: int | None, seed: int) -> "OtherItems | None":
    """Set number and seed of the examples. -> what counts the items that had been drawn as their own example."""
    count = number_of_examples(task, asked)
    task.set_config("num_fewshot", count)
    task.set_fewshot_seed(seed)
    return OtherItems(task) if count else None


def notes_of(task: Task, asked: int | None) -> list[str]:
    """What became of a number that the task does not take."""
    if not asked or number_of_examples(task, asked):
        return []
    return [f"the task fixes num_fewshot: 0, so the {asked} of the call are not used"]


def problem_of(task: Task, asked: int | None) -> str | None:
    """Why there are not enough examples; None where there are."""
    count = number_of_examples(task, asked)
    there = len(task.sampler.df) if hasattr(task, "sampler") else 0
    own = int(_split_of_examples(task) == (task.config.test_split or task.config.validation_split))
    if not count or count <= there - own:
        return None
    beside = ", one of them the item itself" if own else ""
    return f"num_fewshot: {count} examples wanted, the split has {there}{beside}"


def _split_of_examples(task: Task) -> str | None:
    """The split that lm-eval draws them from; None where they are fixed."""
    config = task.config
    if task.fewshot_cfg.split is not None or task.fewshot_cfg.samples is not None:
        return task.fewshot_cfg.split
    return config.training_split or config.validation_split or config.test_split


class OtherItems:
    """The sampler of a task's examples, but that an item is never its own example.

    lm-eval takes care of that only where `fewshot_split` names the test split, for rows that are equal in all columns.
    """

    def __init__(self, task: Task):
        """Takes the place of the sampler, and learns of the item before its examples are drawn."""
        self.task, self.sampler, self.item, self.exchanged = task, task.sampler, None, 0
        self.shown: dict[int, tuple] = {}  # by the place of an example in memory
        plain = task.fewshot_context

        def fewshot_context(item: Any, *arguments: Any, **options: Any) -> Any:
            self.item = item, self._question(item)
            return plain(item, *arguments, **options)

        task.sampler, task.fewshot_context = self, fewshot_context

    def sample(self, n: int, **options: Any) -> Sequence[Any]:
        """As of the sampler; where the item is among them, others are drawn. Raises: UserError for too few others."""
        try:
            drawn = self.sampler.sample(n, **options)
            if not any(map(self._is_item, drawn)):
                return drawn
        except (ValueError, AssertionError):  # fewer than n are left without the item
            pass
        others = [example for example in self.sampler.df if not self._is_item(example)]
        if len(others) < n:
            raise UserError(f"num_fewshot: {n} examples wanted, there are {len(others)} beside the item itself")
        self.exchanged += 1
        if isinstance(self.sampler, FirstNSampler):
            return others[:n]
        if type(self.sampler) is not ContextSampler:
            raise UserError(f"its sampler {type(self.sampler).__name__} gives an item as its own example")
        return self.sampler.rnd.sample(others, n)

    def _is_item(self, example: Any) -> bool:
        item, question = self.item
        if example == item:
            return True
        if id(example) not in self.shown:
            self.shown[id(example)] = self._question(example, self.task.fewshot_cfg)
        return self.shown[id(example)] == question

    def _question(self, row: Any, templates: Any = None) -> tuple:
        """What is shown of a row: question, choices, answer. templates: those of examples."""
        names = ("doc_to_text", "doc_to_choice", "doc_to_target")
        given = [getattr(templates, name, None) for name in names]
        choices = self.task.doc_to_choice(row, given[1]) if self.task.config.doc_to_choice else None
        return self.task.doc_to_text(row, given[0]), choices, self.task.doc_to_target(row, given[2])
