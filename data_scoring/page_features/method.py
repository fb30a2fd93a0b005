"""Features of web pages, and the published rules that they break: C4, Gopher, FineWeb.

Gopher (arXiv 2112.11446), C4 (arXiv 1910.10683), FineWeb (arXiv 2406.17557). Formulas: README.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.messages.mistakes import did_you_mean
from data_common.parallel.processes import cores
from data_common.rows.scripts import told_unspaced
from data_scoring.page_features.rules import SETS, by_set, chosen_rules, direction_of
from data_scoring.scorer import BaseScorer

ABOUT = {
    "family": "rules",
    "needs": "nothing",
    "cost": "counting words",
    "formula": "exact",
}

SHARES = (  # floats, in the order in which they are written
    *("mean_word_length", "alphabetic_words", "stop_word_share", "hashes_per_word", "ellipses_per_word"),
    *("newlines_per_word", "unspaced_characters", "mean_line_length", "bullet_lines", "ellipsis_lines"),
    *("punctuated_lines", "short_lines", "duplicate_lines", "duplicate_line_characters", "duplicate_paragraphs"),
    *("duplicate_paragraph_characters", "repeated_line_characters", "top_2gram", "top_3gram", "top_4gram"),
    *(f"duplicate_{size}grams" for size in range(5, 11)),
    "c4_characters",
)
FEATURES = ("words", "stop_words", "c4_sentences", "c4_lorem_ipsum", "c4_curly_bracket", *SHARES)
STOP_WORDS = ["the", "be", "to", "of", "and", "that", "have", "with"]
PASSES = "passes"  # in place of the name of a rule


class Scorer(BaseScorer):
    """The number of published rules that a page breaks; 0 = it passes all. Lower is better.

    Args:
        rules: sets of rules (gopher_quality, gopher_repetition, c4, fineweb) or single rules, in the order in which
            they are tried
        limits: rule -> another limit, as in {gopher_min_words: 20}; null leaves the rule out
        stop_words: words of which a page of prose has some; those of Gopher, for English
        features: which are written, besides the rules that are broken; null = all, [] = none
        prefix: of the names of the fields
        workers: processes; 0 = one for each core
    """

    higher_is_better = False

    def __init__(
        self,
        *,
        rules: list[str] = [*SETS],  # noqa: B006 - never changed
        limits: dict[str, float | None] = {},  # noqa: B006
        stop_words: list[str] = STOP_WORDS,
        features: list[str] | None = None,
        prefix: str = "page_",
        workers: Annotated[int, Meta(ge=0, le=1024)] = 0,
    ):
        super().__init__()
        self.rules, self.stop_words, self.workers = chosen_rules(rules, limits), stop_words, workers or cores()
        wanted, named = self.rules.get("gopher_stop_words"), len(set(stop_words))
        if wanted and wanted.limit > named:
            cure = "name more, or leave the rule out by limits={gopher_stop_words: null}"
            raise UserError(
                f"stop_words: gopher_stop_words asks for {wanted.limit:g}, of {named} that are named: {cure}"
            )
        self.features, self.prefix = list(FEATURES) if features is None else features, prefix
        for name in self.features:
            if name not in FEATURES:
                raise UserError(f"features: there is no feature '{name}'{did_you_mean(name, FEATURES)}")
        fields = {"reason": None} | dict.fromkeys(map(broken_field, by_set(self.rules)), "lower")
        fields |= {name: direction_of(name) for name in self.features}
        self.extra_directions = {prefix + name: better for name, better in fields.items()}

    def score(self, texts: Sequence[str], work: WorkFolder) -> np.ndarray:
        """How many rules each text breaks, (n,)."""
        from data_scoring.engines.parts import compute_parts, saved_parts
        from data_scoring.page_features.features import page_features

        def compute(folder: Path) -> dict[str, Any]:
            compute_parts(texts, folder, lambda part: page_features(part, self.stop_words), self.workers, "counting")
            return {"texts": len(texts)}

        work.step("features", {"stop_words": self.stop_words}, ("data", "reading"), compute, alone=True)
        parts = list(saved_parts(work.path / "features", len(texts)))
        features = {name: np.concatenate([part[name] for part in parts]) for name in FEATURES}
        score, self.extra = self._judge(features)
        empty, fields = self._judge(page_features([""], self.stop_words))
        self.of_short = {"score": empty[0]} | {field: values[0] for field, values in fields.items()}
        self._tell(features)
        return score

    def _judge(self, features: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The number of broken rules, (pages,), and the fields of every page."""
        broken = np.array([rule.broken(features[rule.feature]) for rule in self.rules.values()])
        names = np.array([*self.rules, PASSES], object)
        fields = {"reason": names[np.where(broken.any(0), broken.argmax(0), len(broken))]}
        fields |= {broken_field(owner): broken[places].sum(0) for owner, places in by_set(self.rules).items()}
        fields |= {name: features[name] for name in self.features}
        return broken.sum(0), {self.prefix + name: values for name, values in fields.items()}

    def _tell(self, features: Mapping[str, np.ndarray]) -> None:
        """How many pages break each rule, and how many are in scripts that the rules are not made for."""
        counts = {name: int(rule.broken(features[rule.feature]).sum()) for name, rule in self.rules.items()}
        self.facts |= {"rows_that_break": counts}
        listed = [f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda one: -one[1]) if count]
        print(f"rows that break each rule, whatever else they break: {', '.join(listed) or 'none'}")
        consequence = "rules of words and sentences say nothing: see the README of page-features"
        unspaced, warnings = told_unspaced(features["unspaced_characters"], consequence)
        self.tell({"rows_without_spaces": unspaced} if unspaced else {}, warnings)


def broken_field(owner: str) -> str:
    """Without the prefix: the field that counts the broken rules of a set."""
    return f"broken_{owner}"
