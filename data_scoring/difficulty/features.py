"""How difficult a text is to read or to predict, without a model: compression, diversity of words, readability."""

import functools
import re
from collections.abc import Iterable, Sequence

import numpy as np
import regex
import zstandard

from data_common.rows.scripts import unspaced_characters

# Words hold together across an apostrophe, point, comma or hyphen: don't, 3.5, well-known.
WORD = regex.compile(r"\w++(?:['’.,\-]\w++)*+")  # noqa: RUF001
SENTENCE_END = regex.compile(r"""\p{Sentence_Terminal}++["'”’)\]]*+(?:\s|$)|\n\s*\n""")  # noqa: RUF001
LEVEL = 3  # of zstd, its own default
THRESHOLD = 0.72  # type-token ratio at which a factor of MTLD is complete

VOWELS = re.compile("[aeiouyàáâäãåèéêëìíîïòóôöõøùúûüæœ]+")
# An e that is not spoken: make, cakes, walked, lately; spoken after a consonant and l, as in table.
SILENT = regex.compile(
    r"(?<![aeiouy]|[^aeiouyl]l)e$|(?<![aeiouytd]|[^aeiouyl]l)ed$|(?<![aeiouysxzcg]|[cs]h|[^aeiouyl]l)es$"
    r"|(?<=[aeiouy][^aeiouy]+)e(?=(?:ly|less|ful|ment|ness)s?$)"
)
# Vowels in a row that are two syllables (radio, video, actual, quiet), and syllables without one (rhythm, isn't).
HIATUS = regex.compile(
    r"(?<![tscxg])i[aou]|(?<![aegp])eo|(?<![gq])u[ao]|(?<![tcr])i(?=e[tn])|[aeiouy]ing|(?:s|th)m(?=s?$)|[sd]n['’]t$"  # noqa: RUF001
)

Features = dict[str, np.ndarray]


def text_features(texts: Sequence[str]) -> Features:
    """Feature -> (texts,), float; NaN in all but `compression_ratio` for a text of no words.

    `words` is their number, `unspaced` the share of the characters of words that scripts without blanks between words
    have.
    """
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    return {
        name: np.array(values, float)
        for name, values in zip(
            ("compression_ratio", "mtld", "flesch_reading_ease", "words", "unspaced"),
            zip(*(_features(text, compressor) for text in texts), strict=True),
            strict=True,
        )
    }


def _features(text: str, compressor: zstandard.ZstdCompressor) -> tuple[float, ...]:
    words = [word.lower() for word in WORD.findall(text)]
    ratio = compression_ratio(text, compressor)
    if not words:
        return ratio, np.nan, np.nan, 0, np.nan
    characters = sum(map(len, words))
    return (
        ratio,
        mtld(words),
        flesch_reading_ease(words, sentences(text)),
        len(words),
        unspaced_characters(text) / characters,
    )


def compression_ratio(text: str, compressor: zstandard.ZstdCompressor) -> float:
    """Bytes of a zstd frame of the text over its UTF-8 bytes; above 1 for very short texts."""
    data = text.encode("utf-8", "surrogatepass")
    return len(compressor.compress(data)) / max(1, len(data))


def mtld(words: Sequence[str]) -> float:
    """Measure of textual lexical diversity: the mean of both directions. words: at least one."""
    return (_mtld(words) + _mtld(words[::-1])) / 2


def _mtld(words: Sequence[str]) -> float:
    """Words over factors: stretches in which the share of different words falls to the threshold.

    The stretch that is left at the end counts by how far its share fell. Words that are all different have no factor at
    all: 1 is taken.
    """
    factors, seen, length, share = 0.0, set(), 0, 1.0
    for word in words:
        length += 1
        seen.add(word)
        share = len(seen) / length
        if share <= THRESHOLD:
            factors, seen, length, share = factors + 1, set(), 0, 1.0
    factors += (1 - share) / (1 - THRESHOLD)
    return len(words) / (factors or 1.0)


def flesch_reading_ease(words: Sequence[str], sentence_count: int) -> float:
    """206.835 - 1.015 words a sentence - 84.6 syllables a word, for English; higher is easier. words: at least one."""
    return 206.835 - 1.015 * len(words) / sentence_count - 84.6 * sum(map(syllables, words)) / len(words)


def sentences(text: str) -> int:
    """Stretches with a word in them, up to a sentence mark of any script that a blank follows, or an empty line."""
    return sum(1 for part in SENTENCE_END.split(text) if WORD.search(part))


@functools.lru_cache(2**17)
def syllables(word: str) -> int:
    """Of an English word in small letters, by rules; at least 1. A number has one syllable."""
    return sum(max(1, _vowel_groups(part)) for part in re.split("[-.,]", word))


def _vowel_groups(word: str) -> int:
    return len(VOWELS.findall(word)) - len(SILENT.findall(word)) + len(HIATUS.findall(word))


def token_counts(texts: Iterable[str], tokenizer) -> np.ndarray:
    """Tokens of each text, without special tokens around it, (texts,)."""
    from data_common.models.tokens import encode, special_tokens

    around = sum(map(len, special_tokens(tokenizer)))
    return np.array([len(ids) - around for ids in encode(list(texts), tokenizer)])
