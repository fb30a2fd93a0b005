"""How much of a benchmark is in the training data: items of which 13 consecutive words occur there.

The length of 13 words follows GPT-3 (arXiv 2005.14165, appendix C). Scripts that put no spaces between words are taken
by characters: 13 of them in a row.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import regex

from data_common.files.work_folder import WorkFolder
from data_common.rows.json_line import Text, document_text
from data_common.rows.jsonl import open_source, read_rows

LENGTH = 13  # words
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit of a word's hash is lost when it is multiplied
# Of scripts that put no spaces between words
UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}"
    r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Javanese}\p{Balinese}"
)
WORD = regex.compile(rf"[{UNSPACED}]\p{{M}}*|(?:(?![{UNSPACED}])[\p{{L}}\p{{M}}\p{{N}}])+")
INVISIBLE = regex.compile(r"\p{Cf}+")  # soft hyphens, joiners, marks of direction
SPECIAL = regex.compile(rf"[{UNSPACED}\p{{M}}\p{{Cf}}]")
PLAIN_WORD = re.compile(r"[^\W_]+")  # the same as WORD where nothing is special, several times as fast


def grams(text: str) -> np.ndarray:
    """Hashes of all runs of LENGTH words of a text, (words - LENGTH + 1,), empty for a shorter one.

    The hash is the same within a process only.
    """
    hashes = np.array([hash(word) for word in words_of(text)], np.int64).view(np.uint64)
    count = len(hashes) - LENGTH + 1
    if count < 1:
        return np.empty(0, np.uint64)
    return reduce(lambda total, start: total * FACTOR + hashes[start : start + count], range(LENGTH), np.uint64(0))


def words_of(text: str) -> list[str]:
    """Runs of letters, digits and the marks on them, whatever their case and however Unicode spells them (NFKC).

    Of scripts that put no spaces between words each character is one.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if SPECIAL.search("".join(set(folded))):
        return WORD.findall(INVISIBLE.sub("", folded))
    return PLAIN_WORD.findall(folded)


def script_of(text: str) -> str:
    """The script of most letters, as Unicode names it: latin, cjk, hiragana, arabic, ...; `none` without letters."""
    names = Counter(unicodedata.name(letter, "none").split()[0].lower() for letter in text if letter.isalpha())
    return names.most_common(1)[0][0] if names else "none"


class Items:
    """The n-grams of all items of some tasks, and which of the items were found."""

    def __init__(self, tasks: Mapping[str, Sequence[Sequence[str]]]):
        """tasks: name -> items -> texts of the item."""
        self.tasks = {name: len(items) for name, items in tasks.items()}
        items = [texts for items in tasks.values() for texts in items]
        found = [np.concatenate([grams(text) for text in texts]) for texts in items]
        # The script of items without LENGTH words, empty for others, (items,)
        self.short = ["" if len(one) else script_of(texts[0]) for one, texts in zip(found, items, strict=True)]
        owners = np.repeat(np.arange(len(found)), [len(one) for one in found])
        hashes = np.concatenate(found)
        order = np.argsort(hashes, kind="stable")
        self.grams, self.owners = hashes[order], owners[order]
        self.seen = np.zeros(len(found), bool)

    def look_into(self, text: str) -> None:
        """Mark the items that share an n-gram with a text of the training data."""
        there = np.unique(grams(text))
        first, stop = (np.searchsorted(self.grams, there, side) for side in ("left", "right"))
        for begin, end in zip(first[first < stop].tolist(), stop[first < stop].tolist(), strict=True):
            self.seen[self.owners[begin:end]] = True

    def shares(self) -> dict[str, dict[str, Any]]:
        """Of each task: share of its items that were found, their number, and that of items too short to be found.

        The last also by script, where there are such.
        """
        shares, first = {}, 0
        for name, count in self.tasks.items():
            seen = self.seen[first : first + count]
            short = Counter(script for script in self.short[first : first + count] if script)
            shares[name] = {"share": float(seen.mean()), "found": int(seen.sum()), "too_short": short.total()}
            shares[name] |= {"too_short_by_script": dict(short.most_common())} if short else {}
            first += count
        return shares


def look_for(
    tasks: Mapping[str, Any], data: str, text_field: str | list[str], limit: int | None, work: WorkFolder
) -> dict[str, dict[str, Any]]:
    """Task -> {"contamination": shares} of the training file `data`, which is read once.

    tasks: as lm-eval has loaded them. limit: only their first items.
    Raises: UserError for a missing file and a bad row.
    """
    fields = [text_field] if isinstance(text_field, str) else text_field

    def count(folder: Path) -> dict[str, Any]:
        texts = {}
        for name, task in tasks.items():
            texts[name] = [item_texts(task, item) for item in islice(task.eval_docs, limit)]
        items = Items(texts)
        with open_source(data, key="contamination_data") as source:
            for _, _, values in read_rows(source, dict.fromkeys(fields, Text), progress="looking for benchmark items"):
                items.look_into(document_text(values))
        return items.shares()

    keys = {"tasks": sorted(tasks), "text_field": text_field, "limit": limit}
    facts = work.step("contamination", keys, ("contamination", "tasks", "code", "data"), count, alone=True)
    return {name: {"contamination": found} for name, found in facts.items()}


def item_texts(task: Any, item: Any) -> list[str]:
    """An item as the model sees it, with every answer, without examples in front."""
    text = task.doc_to_text(item)
    space = task.config.target_delimiter
    if task.OUTPUT_TYPE != "multiple_choice":
        return [f"{text}{space}{task.doc_to_target(item)}"]
    choices = task.doc_to_choice(item)
    if isinstance(text, int):  # the choices are different contexts of one ending
        return [f"{choice}{space}{task.doc_to_target(item)}" for choice in choices]
    return [f"{text}{space}{choice}" for choice in choices]
