"""How difficult a text is: compression, diversity of words (MTLD), Flesch reading ease, tokens per word.

The signals that Beyond Random Sampling (Zhang et al., arXiv 2506.11300, EACL 2026) found best for curricula. MTLD:
McCarthy and Jarvis, https://doi.org/10.3758/BRM.42.2.381. Reading ease: Flesch, https://doi.org/10.1037/h0057532.
Formulas and limits: README.md.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from msgspec import Meta

from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.models.special_tokens import Special
from data_common.parallel.processes import cores
from data_common.rows.scripts import told_unspaced
from data_scoring.scorer import BaseScorer

ABOUT = {
    "family": "rules",
    "needs": "nothing; for tokens per word a tokenizer",
    "cost": "compressing the text, counting words",
    "formula": "paper",
}

Metric = Literal["compression_ratio", "mtld", "flesch_reading_ease", "tokens_per_word"]
FEW_WORDS = 100  # below which MTLD says little


class Scorer(BaseScorer):
    """Difficulty of a text by rules: `metric` is the score, the others are fields of their names. No end is better.

    Args:
        metric: what goes to score_field: compression_ratio, mtld, flesch_reading_ease (high = easy) or tokens_per_word
        extra_metrics: further metrics, each written to a field of its own name; null = all the others that can be had
        tokenizer: folder or hub id of the tokenizer of tokens_per_word; null = that cannot be had
        special_tokens_in_text: how text that spells a special token, such as </s>, is read: as text or as tokens
        trust_remote_code: true runs Python code that comes with the tokenizer; false refuses what needs it
        workers: processes; 0 = one for each core
    """

    higher_is_better = None

    def __init__(
        self,
        *,
        metric: Metric = "compression_ratio",
        extra_metrics: list[Metric] | None = None,
        tokenizer: str | None = None,
        special_tokens_in_text: Special = "text",
        trust_remote_code: bool = False,
        workers: Annotated[int, Meta(ge=0, le=1024)] = 0,
    ):
        super().__init__()
        self.metric, self.workers = metric, workers or cores()
        had = [name for name in get_args(Metric) if tokenizer or name != "tokens_per_word"]
        wanted = [metric, *(had if extra_metrics is None else extra_metrics)]
        self.extra_directions = {name: None for name in wanted if name != metric}
        self.tokenizer, self.special, self.trust_remote_code = tokenizer, special_tokens_in_text, trust_remote_code
        if tokenizer is None and "tokens_per_word" in wanted:
            raise UserError("tokens_per_word: set tokenizer to the folder or hub id of one")

    def check(self, rows: int | None, directions: Mapping[str, str]) -> None:
        """Raises UserError where the tokenizer does not load."""
        if self.tokenizer:
            from data_common.models.checks import check_tokenizer  # imports torch

            check_tokenizer(self.tokenizer, self.trust_remote_code)

    def inputs(self) -> dict[str, str]:
        """The tokenizer: folder or hub id."""
        return {"tokenizer": self.tokenizer} if self.tokenizer else {}

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray:
        """The metric of every text, (n,); NaN for a text without a word."""
        from data_scoring.engines.parts import compute_parts, saved_parts

        def compute(folder: Path) -> dict[str, Any]:
            compute_parts(texts, folder, self._measures(), self.workers, "measuring")
            return {"texts": len(texts)}

        keys = {"tokens": bool(self.tokenizer), "special": self.special, "trust_remote_code": self.trust_remote_code}
        work.step("measures", keys, ("data", "reading", *self.inputs()), compute, alone=True)
        parts = list(saved_parts(work.path / "measures", len(texts)))
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self._tell(values)
        wordless = values["words"] == 0
        values = {name: np.where(wordless, np.nan, found) for name, found in values.items()}
        self.extra = {name: values[name] for name in self.extra_directions}
        return values[self.metric]

    def _measures(self) -> Callable[[Sequence[str]], dict[str, np.ndarray]]:
        """The function texts -> measures of each, (texts,)."""
        from data_scoring.difficulty.features import text_features, token_counts

        if self.tokenizer is None:
            return text_features
        from data_common.models.loading import load_tokenizer  # imports torch

        tokenizer = load_tokenizer(self.tokenizer, self.trust_remote_code, self.special)

        def measured(part: Sequence[str]) -> dict[str, np.ndarray]:
            found = text_features(part)
            return found | {"tokens_per_word": token_counts(part, tokenizer) / np.maximum(found["words"], 1)}

        return measured

    def _tell(self, values: Mapping[str, np.ndarray]) -> None:
        """How many texts the measures of words say little of."""
        words, consequence = values["words"], "only compression_ratio says something: see the README of difficulty"
        unspaced, warnings = told_unspaced(values["unspaced"], consequence)
        few = int(((words > 0) & (words < FEW_WORDS)).sum())
        counts = {"rows_without_words": int((words == 0).sum()), f"rows_below_{FEW_WORDS}_words": few}
        self.tell(counts | {"rows_without_spaces": unspaced}, warnings)
        print(f"rows of fewer than {FEW_WORDS} words, of which MTLD says little: {few:,} of {len(words):,}")
