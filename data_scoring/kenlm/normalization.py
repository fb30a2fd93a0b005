# ruff: noqa: RUF001 - the signs are meant
"""Text normalisation before an n-gram model, with the presets that published KenLM models were trained with.

`ccnet` is that of CCNet (Wenzek et al., LREC 2020, https://aclanthology.org/2020.lrec-1.494): lower case, no accents,
digits to 0, Unicode punctuation to ASCII, control characters removed. `edugp` (the models of the hub id edugp/kenlm)
keeps case and accents.
"""

import functools
import string
import sys
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

Preset = Literal["ccnet", "edugp", "none"]
Punctuation = Literal["ascii", "remove", "keep"]

CONTROL = [*range(0, 32), *range(127, 160)]
# ASCII -> the signs that become it. CCNet's table also turns a full-width 1 into a quote: its digits are 0 by then.
PUNCTUATION = {
    ",": "，、",
    ".": "。",
    '"': "„”“«»」「《》",
    "'": "´’",
    ":": "∶：",
    "?": "？",
    "!": "！",
    "(": "（",
    ")": "）",
    ";": "；",
    "-": "–━►",
    " - ": "—",
    ". ": "．",
    "~": "～",
    "...": "…",
    "<": "〈",
    ">": "〉",
    "[": "【",
    "]": "】",
    "%": "％",
}


@dataclass(frozen=True)
class Normalization:
    """What is done to a line of text; the result has no control character and no newline.

    lowercase, strip_accents (marks are split off by NFD and dropped), normalize_digits (each to 0): whether.
    punctuation: ascii = Unicode punctuation becomes ASCII as in CCNet; remove = every punctuation mark but the
        apostrophe becomes a space; keep = as it is.
    control: what each control character becomes.
    """

    lowercase: bool
    strip_accents: bool
    normalize_digits: bool
    punctuation: Punctuation
    control: str

    def __call__(self, text: str) -> str:
        text = text.strip()
        if self.lowercase:
            text = text.lower()
        if self.strip_accents:
            text = unicodedata.normalize("NFD", text)
        return text.translate(self._table)

    @functools.cached_property
    def _table(self) -> dict[int, str | None]:
        """Code point -> replacement, for all that is replaced sign by sign."""
        table: dict[int, str | None] = {}
        if self.strip_accents:
            table |= dict.fromkeys(_by_category()["Mn"])
        if self.normalize_digits:
            table |= dict.fromkeys(_by_category()["Nd"], "0")
        if self.punctuation == "remove":
            signs = [code for category, codes in _by_category().items() if category[0] == "P" for code in codes]
            table |= dict.fromkeys([*signs, *map(ord, string.punctuation)], " ")
            table[ord("’")] = "'"
            del table[ord("'")]
        if self.punctuation == "ascii":
            table |= {ord(sign): to for to, signs in PUNCTUATION.items() for sign in signs}
        return table | dict.fromkeys(CONTROL, self.control)


PRESETS: dict[Preset, Normalization] = {
    "ccnet": Normalization(True, True, True, "ascii", ""),
    "edugp": Normalization(False, False, True, "ascii", ""),
    "none": Normalization(False, False, False, "keep", " "),
}


@functools.cache
def _by_category() -> dict[str, list[int]]:
    """Unicode category -> its code points."""
    codes = defaultdict(list)
    for code in range(sys.maxunicode + 1):
        codes[unicodedata.category(chr(code))].append(code)
    return codes
