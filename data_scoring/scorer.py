"""What scoring asks of a method: the class `Scorer` of its method.py derives from this one."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_common.files.work_folder import WorkFolder
from data_common.models.special_tokens import Special

Better = Literal["higher", "lower"] | None


class BaseScorer:
    """A method overrides `score`, and of the rest what differs from these defaults."""

    higher_is_better: bool | None = True  # selection reads this from the manifest; None = neither, it must be told
    shares_work = False  # whether several processes (NPROC) may run one call together
    special: Special | None = None  # how text that spells special tokens is read, where a model's tokenizer reads it
    reads_answers = False  # whether only the answers of conversations are scored: texts know where these stand
    rewrites = False  # whether `rewrite` puts other rows in the place of those of the corpus
    stops_early = False  # whether `score` may give None, as the user asked for a part of the work only

    def __init__(self):
        self.facts: dict[str, Any] = {}  # what `score` has to tell the manifest
        self.warnings: list[str] = []  # what the user must know before the scores are used: in summary and report
        # Further fields of every row, and which values are better: None where none is, as of strings and booleans.
        self.extra_directions: dict[str, Better] = {}
        # Their values, (n,) each, filled by `score`: floats (NaN where the score is), whole numbers, booleans, strings.
        self.extra: dict[str, np.ndarray] = {}
        self.of_short: dict[str, Any] = {}  # field -> what a row too short gets (on_short=worst), where that is known
        self.number_fields: list[str] = []  # fields in which every row must have a number

    def tell(self, facts: Mapping[str, Any], warnings: Iterable[str] = ()) -> None:
        """Note what an engine has to tell beside its scores."""
        self.facts |= facts
        self.warnings += warnings

    def declare(self) -> None:
        """Fill `extra_directions`, where the fields follow from a file. Raises UserError for what is wrong with it."""

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError for what is wrong with files, models and devices, as far as that takes seconds.

        Called before anything is read, and all that a dry run asks: nothing is downloaded, nothing written.
        rows: how many there are about; None = not known. directions: field -> "higher" or "lower", as declared.
        """

    def inputs(self) -> dict[str, str]:
        """Paths or hub ids, beside the corpus, that the scores depend on."""
        return {}

    def rewrite(self, texts: Iterable[tuple[str | int, str]], total: int, work: WorkFolder) -> Path | None:
        """A JSONL file with `text` fields whose rows are scored in place of the corpus's own; None = its own rows.

        texts: (id, text) of the rows, `total` of them.
        """
        return None

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray | None:
        """One number for each text, (n,); NaN for a text that is too short to have one.

        texts: can be iterated over again and again; never all in memory. work: a folder for long work, step by step.
        None: the user asked to stop before there are scores (`stops_early`).
        """
        raise TypeError(f"{type(self).__name__} does not score")
