"""What can be counted on a page: words, lines, repetition, and what the rules of C4 would keep of it.

Formulas as in the filters of the package datatrove, which FineWeb (arXiv 2406.17557) was made with.
"""

import functools
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
import regex

from data_common.rows.scripts import unspaced_characters
from data_scoring.page_features.repetition import Words, duplicates, ngram_characters

# Words hold together across an apostrophe, point or comma (don't, 3.5, U.S); runs of marks are tokens of their own.
TOKEN = regex.compile(r"\w++(?:['’.,]\w++)*+|[^\w\s]++")  # noqa: RUF001
# Punctuation of ASCII and of CCNet's table; sentence marks and control characters of Unicode come on top.
MARKS = frozenset(string.punctuation + "«´»–—’“”„…∶━►、。〈〉《》「」【】！％（），．：；？～")  # noqa: RUF001
LINES, PARAGRAPHS = re.compile("\n+"), re.compile("\n{2,}")
SHORT_LINE = 30  # characters
NGRAM_WORDS = 2**17  # that are looked at together; their keys fit into a processor's cache

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
LINE_ENDS, ELLIPSES = (".", "?", "!", '"', "'"), ("...", "…")
NOTICES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
LONGEST_WORD, FEWEST_WORDS = 1000, 3  # of a line that C4 keeps
# A sentence ends at a mark that a blank follows, but no small letter: the end of a line is counted as its own.
SENTENCE_END = regex.compile(r"""[.?!]["')\]]*+[^\S\n]++(?!\p{Ll})""")

Features = dict[str, np.ndarray]


class Vocabulary(dict):
    """Word -> its number, in the order of first appearance."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


def page_features(pages: Sequence[str], stop_words: Sequence[str]) -> Features:
    """Feature -> (pages,): whole numbers, booleans, and shares of the page as floats. A page of no words gets zeros."""
    vocabulary, numbers, counts, others = Vocabulary(), [], [], []
    for page in pages:
        text = with_plain_lines(page)
        found = TOKEN.findall(text)
        numbers.append(np.fromiter(map(vocabulary.__getitem__, found), np.int64, len(found)))
        counts.append(len(found))
        others.append(_line_features(text) | _c4_features(text))
    words = np.concatenate([np.empty(0, np.int64), *numbers])
    columns = {name: np.array([one[name] for one in others]) for name in others[0]}
    return _ordered(columns, _word_features(list(vocabulary), words, np.array(counts), columns, stop_words))


def with_plain_lines(page: str) -> str:
    r"""The page with `\n` for every line end: `\r\n`, `\r`, U+2028 and the others that Unicode has."""
    return "\n".join((page + ".").splitlines())[:-1]  # the point keeps an end behind the last line


def _ordered(lines: Features, words: Features) -> Features:
    """All but helpers, words first."""
    return {name: values for name, values in (words | lines).items() if not name.startswith("_")}


def _word_features(
    vocabulary: list[str], numbers: np.ndarray, counts: np.ndarray, lines: Features, stop_words: Sequence[str]
) -> Features:
    """Features that depend on words. numbers: (words of all pages,), in the vocabulary. counts: (pages,), of words."""
    pages = np.repeat(np.arange(len(counts)), counts)

    def total(values: Sequence[float]) -> np.ndarray:
        """Of a value of each word of the vocabulary, the sum over each page."""
        return np.bincount(pages, np.array(values, float)[numbers], len(counts))

    lengths = np.array([len(word) for word in vocabulary], np.int64)
    real = np.array([not _is_symbol(word) for word in vocabulary], bool)
    spoken, tokens = total(real), np.maximum(counts, 1)
    characters = np.maximum(lines["_characters"], 1)
    stopped = frozenset(stop_words)
    repeated = [ngram_characters(block) for block in Words(numbers, counts, lengths[numbers]).blocks(NGRAM_WORDS)]
    return {
        "words": spoken.astype(np.int64),
        "mean_word_length": total(lengths * real) / np.maximum(spoken, 1),
        "alphabetic_words": total([any(map(str.isalpha, word)) for word in vocabulary]) / tokens,
        "stop_words": _distinct(numbers, pages, len(counts), vocabulary, stop_words),
        "stop_word_share": total([word.lower() in stopped for word in vocabulary]) / np.maximum(spoken, 1),
        "hashes_per_word": lines["_hashes"] / tokens,
        "ellipses_per_word": lines["_ellipses"] / tokens,
        "newlines_per_word": lines["_newlines"] / tokens,
        "unspaced_characters": total([unspaced_characters(word) for word in vocabulary])
        / np.maximum(total(lengths), 1),
    } | {name: np.concatenate([one[name] for one in repeated]) / characters for name in repeated[0]}


def _distinct(
    numbers: np.ndarray, pages: np.ndarray, count: int, vocabulary: list[str], stop_words: Sequence[str]
) -> np.ndarray:
    """How many of the stop words each page has, spelled as they are, (pages,)."""
    place = {word: index for index, word in enumerate(dict.fromkeys(stop_words))}
    which = np.array([place.get(word, -1) for word in vocabulary], np.int64)[numbers]
    there = np.zeros((count, len(place)), bool)
    there[pages[which >= 0], which[which >= 0]] = True
    return there.sum(1)


def _is_symbol(word: str) -> bool:
    """Whether it has no character but marks."""
    return not word[0].isalnum() and all(map(_is_mark, set(word)))


@functools.cache
def _is_mark(character: str) -> bool:
    return character in MARKS or _ends_sentence(character) or unicodedata.category(character) == "Cc"


@functools.cache
def _ends_sentence(character: str) -> bool:
    """Whether it is a full stop, question mark or the like of any script."""
    return bool(regex.match(r"\p{Sentence_Terminal}", character))


def _line_features(text: str) -> Mapping[str, float]:
    """Features of lines and paragraphs; those that begin with an underline are for the features of words."""
    lines, pieces = text.split("\n"), LINES.split(text)
    paragraphs = PARAGRAPHS.split(text.strip())
    filled = [line for line in lines if line and not line.isspace()]
    stripped = [line.strip() for line in lines]
    count, characters = max(1, len(lines) - text.endswith("\n")), max(1, len(text))
    newlines, some = len(lines) - 1, max(1, len(filled))
    (twice, twice_characters), (again, again_characters) = duplicates(pieces), duplicates(paragraphs)
    return {
        "mean_line_length": sum(map(len, filled)) / some,
        "bullet_lines": sum(line.startswith(("•", "-")) for line in stripped) / count,
        "ellipsis_lines": sum(line.endswith(ELLIPSES) for line in stripped) / count,
        "punctuated_lines": sum(_ends_sentence(line[-1]) for line in filled) / some,
        "short_lines": sum(len(line) <= SHORT_LINE for line in filled) / some,
        "duplicate_lines": twice / len(pieces),
        "duplicate_line_characters": twice_characters / characters,
        "duplicate_paragraphs": again / len(paragraphs),
        "duplicate_paragraph_characters": again_characters / characters,
        "repeated_line_characters": duplicates(filled)[1] / max(1, len(text) - newlines),
        "_characters": len(text),
        "_newlines": newlines,
        "_hashes": text.count("#"),
        "_ellipses": text.count("...") + text.count("…"),
    }


def _c4_features(text: str) -> Mapping[str, float]:
    """What the line rules of C4 keep, and whether the kept lines have what makes C4 drop the page."""
    kept, all_characters, lorem, curly = [], 0, False, False
    lowered = (CITATION.sub("", text) if "[" in text else text).lower()
    phrases = [phrase for phrase in ("lorem ipsum", "javascript", *NOTICES) if phrase in lowered]
    for line in map(str.strip, text.split("\n")):
        all_characters += len(line)
        words = line.split()
        if len(line) > LONGEST_WORD and max(map(len, words)) > LONGEST_WORD:
            continue
        line = CITATION.sub("", line) if "[" in line else line
        if not line.endswith(LINE_ENDS) or line.endswith("...") or len(words) < FEWEST_WORDS:
            continue
        said = {phrase for phrase in phrases if phrase in line.lower()}
        lorem |= "lorem ipsum" in said
        if "javascript" in said:
            continue
        curly |= "{" in line
        if not said:
            kept.append(line)
    return {
        "c4_characters": sum(map(len, kept)) / max(1, all_characters),
        "c4_sentences": len(kept) + len(SENTENCE_END.findall("\n".join(kept))),
        "c4_lorem_ipsum": lorem,
        "c4_curly_bracket": curly,
    }
