"""The columns of each benchmark: those of the hub, and other shapes found in practice, turned into them row by row."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LETTERS = "ABCDEFGHIJ"
MBPP_TEST = range(11, 511)  # task_id of the test split, where a file holds all problems
Words = list[str]
Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """Columns in which a benchmark may come, and how a row of them becomes one of the stock task."""

    columns: Mapping[str, Any]  # name (a dot steps into an object) -> type
    convert: Callable[..., Row | None]  # their values -> row; None leaves it out; ValueError says why it is bad
    changes: Mapping[str, Any] = field(default_factory=dict)  # of the stock task file, where its columns do not fit

    def top_level(self) -> list[str]:
        """The columns without the steps into objects."""
        return list(dict.fromkeys(name.split(".")[0] for name in self.columns))


def plain(columns: Mapping[str, Any], check: Callable[[Row], None] = lambda row: None) -> Shape:
    """Columns that are taken as they are. check: raises ValueError for a row that makes no sense."""

    def convert(*values: Any) -> Row:
        row = dict(zip(columns, values, strict=True))
        check(row)
        return row

    return Shape(columns, convert)


def require(holds: bool, otherwise: str) -> None:
    """Raises: ValueError with the reason where a condition does not hold."""
    if not holds:
        raise ValueError(otherwise)


def check_gold(choices: Sequence[str], gold: int) -> None:
    """Raises: ValueError where `gold` is the number of none of the choices."""
    require(0 <= gold < len(choices), f"gold is {gold}, there are {len(choices)} choices")


def question_of(query: str) -> str:
    """A prompt without the words `Question:` and `Answer:` around it, which the stock task adds."""
    return query.strip().removeprefix("Question:").removesuffix("Answer:").strip()


def hellaswag(row: Row) -> None:
    """Checks a row; its label may be a number or a string, as on the hub."""
    require(str(row["label"]).isdecimal(), f"label is {row['label']!r}, not a number")
    check_gold(row["endings"], int(row["label"]))
    row["label"] = str(row["label"])


def hellaswag_of_query(query: str, choices: Words, gold: int) -> Row:
    """The query is what the stock code would make of the hub's columns."""
    check_gold(choices, gold)
    return {"query": query, "choices": choices, "label": str(gold)}


def lettered(name: str) -> Callable[[str, Words, Words, str], Row]:
    """Converts rows of the ARC kind, whose question is the column `name`."""

    def convert(question: str, texts: Words, labels: Words, key: str) -> Row:
        require(key.strip() in labels, f"answerKey is {key!r}, the labels are {', '.join(labels)}")
        return {name: question, "choices": {"text": texts, "label": labels}, "answerKey": key.strip()}

    return convert


def lettered_of_query(name: str) -> Callable[[str, Words, int], Row]:
    """Converts query, choices and gold to the ARC kind, whose question is the column `name`."""

    def convert(query: str, choices: Words, gold: int) -> Row:
        check_gold(choices, gold)
        return lettered(name)(question_of(query), choices, list(LETTERS[: len(choices)]), LETTERS[gold])

    return convert


def piqa_of_query(query: str, choices: Words, gold: int) -> Row:
    """Query, two choices and gold to the hub's columns."""
    require(len(choices) == 2, f"there are {len(choices)} choices, piqa has 2")
    check_gold(choices, gold)
    return {"goal": question_of(query), "sol1": choices[0], "sol2": choices[1], "label": gold}


def winogrande(row: Row) -> None:
    """Checks a row."""
    require("_" in row["sentence"], "sentence has no _ for the option")
    require(row["answer"] in ("1", "2"), f"answer is {row['answer']!r}, not 1 or 2")


def winogrande_of_contexts(contexts: Words, continuation: str, gold: int) -> Row:
    """The options are the contexts without what both begin with, cut at a word."""
    require(len(contexts) == 2, f"there are {len(contexts)} context_options, winogrande has 2")
    check_gold(contexts, gold)
    shared = os.path.commonprefix(contexts)  # noqa: RUF071 (of texts, character by character)
    shared = shared[: shared.rfind(" ") + 1]
    shared = "" if "_" in shared else shared  # the stock code would take it for the blank
    options = [context[len(shared) :] for context in contexts]
    sentence = f"{shared}_ {continuation.strip()}"
    return {"sentence": sentence, "option1": options[0], "option2": options[1], "answer": str(gold + 1)}


def lambada_of_context(context: str, continuation: str) -> Row:
    """A passage and its last word to one text."""
    word = continuation.strip()
    require(word != "" and " " not in word, f"continuation is {continuation!r}, not one word")
    return {"text": f"{context.rstrip(' ')} {word}"}


def gsm8k(row: Row) -> None:
    """Checks a row."""
    require("#### " in row["answer"], "answer does not end in '#### NUMBER'")


def mathqa(row: Row) -> None:
    """Checks a row."""
    require(row["correct"] in tuple("abcde"), f"correct is {row['correct']!r}, not one of a to e")


def mathqa_of_query(query: str, choices: Words, gold: int) -> Row:
    """A query whose last lines are `A. 30`, `B. 38`, ...: these are the answers; without such lines the choices are."""
    problem, marker, lines = question_of(query).partition("\nA. ")
    answers = choices
    if marker:
        rows = f"A. {lines}".split("\n")
        letters = [row[:2] for row in rows]
        require(letters == [f"{letter}." for letter in LETTERS[: len(choices)]], f"the query ends in choices {letters}")
        answers = [row[2:].strip() for row in rows]
    check_gold(answers, gold)
    return {"Problem": problem, "answers": answers, "correct": LETTERS[gold].lower()}


def mbpp(text: str, code: str, tests: Words, task_id: int) -> Row | None:
    """A row of the test split; None for one of the other splits."""
    if task_id not in MBPP_TEST:
        return None
    require(len(tests) >= 3, f"test_list has {len(tests)} tests, the prompt shows 3")
    return {"text": text, "code": code, "test_list": tests, "task_id": task_id}


def strings(*names: str) -> dict[str, type]:
    """Columns of text."""
    return dict.fromkeys(names, str)


CHOICES = {"choices.text": Words, "choices.label": Words, "answerKey": str}
QUERY = {"query": str, "choices": Words, "gold": int}
CONTEXTS = {"context_options": Words, "continuation": str, "gold": int}
ARC = (Shape(strings("question") | CHOICES, lettered("question")), Shape(QUERY, lettered_of_query("question")))

SHAPES: dict[str, tuple[Shape, ...]] = {  # of each benchmark, the columns of the hub first
    "hellaswag": (
        plain(strings("activity_label", "ctx_a", "ctx_b") | {"endings": Words, "label": str | int}, hellaswag),
        Shape(QUERY, hellaswag_of_query, {"process_docs": None}),
    ),
    "sciq": (plain(strings("question", "support", "distractor1", "distractor2", "distractor3", "correct_answer")),),
    "arc_easy": ARC,
    "arc_challenge": ARC,
    "openbookqa": (
        Shape(strings("question_stem") | CHOICES, lettered("question_stem")),
        Shape(QUERY, lettered_of_query("question_stem")),
    ),
    "piqa": (
        plain(
            strings("goal", "sol1", "sol2") | {"label": int},
            lambda row: require(row["label"] in (0, 1), f"label is {row['label']}, not 0 or 1"),
        ),
        Shape(QUERY, piqa_of_query),
    ),
    "winogrande": (
        plain(strings("sentence", "option1", "option2", "answer"), winogrande),
        Shape(CONTEXTS, winogrande_of_contexts),
    ),
    "lambada_openai": (
        plain(strings("text")),
        Shape(strings("context", "continuation"), lambada_of_context),
    ),
    "gsm8k": (plain(strings("question", "answer"), gsm8k),),
    "mathqa": (
        plain(strings("Problem", "options", "correct"), mathqa),
        Shape(QUERY, mathqa_of_query, {"doc_to_choice": "answers"}),
    ),
    "gpqa_diamond_zeroshot": (
        plain(strings("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")),
    ),
    "humaneval": (plain(strings("prompt", "test", "entry_point")),),
    "mbpp": (Shape(strings("text", "code") | {"test_list": Words, "task_id": int}, mbpp),),
}
