"""Published rules for web pages: what each reads, and the limit up to which a page passes.

Gopher (arXiv 2112.11446, appendix A1.1 and table A1), C4 (arXiv 1910.10683, section 2.2), FineWeb (arXiv 2406.17557,
section 3.6).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from data_common.messages.errors import UserError
from data_common.messages.mistakes import did_you_mean


class Rule(NamedTuple):
    """A page breaks the rule where the feature is below a minimum, or above a maximum."""

    feature: str
    bound: Literal["min", "max"]
    limit: float

    def broken(self, values: np.ndarray) -> np.ndarray:
        """Which pages break it, (pages,). values: of its feature, (pages,)."""
        return values < self.limit if self.bound == "min" else values > self.limit


SETS: dict[str, dict[str, Rule]] = {
    "gopher_quality": {
        "gopher_min_words": Rule("words", "min", 50),
        "gopher_max_words": Rule("words", "max", 100_000),
        "gopher_min_word_length": Rule("mean_word_length", "min", 3),
        "gopher_max_word_length": Rule("mean_word_length", "max", 10),
        "gopher_hashes": Rule("hashes_per_word", "max", 0.1),
        "gopher_ellipses": Rule("ellipses_per_word", "max", 0.1),
        "gopher_bullet_lines": Rule("bullet_lines", "max", 0.9),
        "gopher_ellipsis_lines": Rule("ellipsis_lines", "max", 0.3),
        "gopher_alphabetic_words": Rule("alphabetic_words", "min", 0.8),
        "gopher_stop_words": Rule("stop_words", "min", 2),
    },
    "gopher_repetition": {
        "gopher_duplicate_paragraphs": Rule("duplicate_paragraphs", "max", 0.3),
        "gopher_duplicate_paragraph_characters": Rule("duplicate_paragraph_characters", "max", 0.2),
        "gopher_duplicate_lines": Rule("duplicate_lines", "max", 0.3),
        "gopher_duplicate_line_characters": Rule("duplicate_line_characters", "max", 0.2),
        "gopher_top_2gram": Rule("top_2gram", "max", 0.20),
        "gopher_top_3gram": Rule("top_3gram", "max", 0.18),
        "gopher_top_4gram": Rule("top_4gram", "max", 0.16),
        "gopher_duplicate_5grams": Rule("duplicate_5grams", "max", 0.15),
        "gopher_duplicate_6grams": Rule("duplicate_6grams", "max", 0.14),
        "gopher_duplicate_7grams": Rule("duplicate_7grams", "max", 0.13),
        "gopher_duplicate_8grams": Rule("duplicate_8grams", "max", 0.12),
        "gopher_duplicate_9grams": Rule("duplicate_9grams", "max", 0.11),
        "gopher_duplicate_10grams": Rule("duplicate_10grams", "max", 0.10),
    },
    "c4": {
        "c4_lorem_ipsum": Rule("c4_lorem_ipsum", "max", 0),
        "c4_curly_bracket": Rule("c4_curly_bracket", "max", 0),
        "c4_sentences": Rule("c4_sentences", "min", 5),
    },
    "fineweb": {
        "fineweb_punctuated_lines": Rule("punctuated_lines", "min", 0.12),
        "fineweb_short_lines": Rule("short_lines", "max", 0.67),
        "fineweb_repeated_line_characters": Rule("repeated_line_characters", "max", 0.01),
        "fineweb_newlines_per_word": Rule("newlines_per_word", "max", 0.3),
    },
}
BOOLEANS = ("c4_lorem_ipsum", "c4_curly_bracket")
ALL = {name: rule for rules in SETS.values() for name, rule in rules.items()}


def chosen_rules(names: Sequence[str], limits: Mapping[str, float | None]) -> dict[str, Rule]:
    """Name -> rule, for rules and sets of rules that are named, in the order of the names.

    limits: rule -> a limit of the user's; None leaves the rule out. Raises: UserError for what is not known.
    """
    chosen: dict[str, Rule] = {}
    for name in names:
        if name not in SETS and name not in ALL:
            raise UserError(f"rules: there is no rule or set '{name}'{did_you_mean(name, [*SETS, *ALL])}")
        chosen |= SETS[name] if name in SETS else {name: ALL[name]}
    for name, limit in limits.items():
        if name not in chosen:
            raise UserError(f"limits: '{name}' is not one of the rules in use{did_you_mean(name, list(chosen))}")
        if limit is not None and not math.isfinite(limit):
            raise UserError(f"limits: {name} is {limit}; give a number, or null, which leaves the rule out")
        chosen[name] = chosen[name]._replace(limit=limit)
    chosen = {name: rule for name, rule in chosen.items() if rule.limit is not None}
    if not chosen:
        raise UserError(f"rules: name one at least, or one of the sets {', '.join(SETS)}")
    return chosen


def by_set(names: Iterable[str]) -> dict[str, list[int]]:
    """Set -> the places in `names` of its rules, for sets of which there are some, in the order of the names."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        owner = next(owner for owner, rules in SETS.items() if name in rules)
        places.setdefault(owner, []).append(place)
    return places


def direction_of(feature: str) -> Literal["higher", "lower"] | None:
    """Which values the published rules prefer; None where they bound both sides, or none, and of booleans."""
    bounds = set() if feature in BOOLEANS else {rule.bound for rule in ALL.values() if rule.feature == feature}
    return None if len(bounds) != 1 else "higher" if "min" in bounds else "lower"
