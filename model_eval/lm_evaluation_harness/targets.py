"""Whether the answers of a task are what lm-eval takes them for; where they are not, it counts items as wrong."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from lm_eval.api.task import ConfigurableTask, Task


def notes_of(task: Task, limit: int | None) -> tuple[list[str], str | None]:
    """What is to be known of the answers, and a problem where no item can be answered rightly.

    Nothing of a task whose own code compares them.
    """
    if not isinstance(task, ConfigurableTask) or task.config.process_results is not None:
        return [], None
    items = islice(task.eval_docs, limit)
    return _of_choices(task, items) if task.OUTPUT_TYPE == "multiple_choice" else (_of_texts(task, items), None)


def _of_choices(task: ConfigurableTask, items: Iterable[Any]) -> tuple[list[str], str | None]:
    count = unknown = doubtful = empty = 0
    name = "doc_to_text" if task.multiple_input else "doc_to_target"
    is_template = isinstance(getattr(task.config, name), str) and getattr(task.config, name) not in task.features
    for item in items:
        gold = task.doc_to_text(item) if task.multiple_input else task.doc_to_target(item)
        choices = list(task.doc_to_choice(item))
        count += 1
        unknown += not all(_is_choice(one, choices) for one in (gold if isinstance(gold, list) else [gold]))
        empty += any(choice == "" for choice in choices)
        doubtful += is_template and isinstance(gold, int) and str(gold) in choices and choices.index(str(gold)) != gold
    notes = []
    if unknown:
        notes.append(f"the label of {unknown:,} of {count:,} items is not one of the choices: they count as wrong")
    if doubtful:
        told = (
            f"{name} of {doubtful:,} of {count:,} items is taken for the place of a choice, and is the text of another"
        )
        notes.append(f"{told}: name the column itself if the text is meant")
    if empty:
        notes.append(f"{empty:,} of {count:,} items have a choice without a character, by which acc_norm divides")
    problem = f"none of its {count:,} labels is one of the choices (a split whose labels are hidden?)"
    return notes, problem if unknown == count else None


def _is_choice(label: Any, choices: list[Any]) -> bool:
    return 0 <= label < len(choices) if isinstance(label, int) else label in choices


def _of_texts(task: ConfigurableTask, items: Iterable[Any]) -> list[str]:
    """lm-eval reads a text like `[1, 2]` that a template gives as a list of answers, any of which is right."""
    targets = [task.doc_to_target(item) for item in items]
    lists = sum(isinstance(target, list) for target in targets)
    if not lists or task.config.doc_to_target in task.features:
        return []
    told = f"doc_to_target of {lists:,} of {len(targets):,} items is read as a list of answers, any of which is right"
    return [told if lists == len(targets) else f"{told}; of the others as a text: one kind is compared wrongly"]
