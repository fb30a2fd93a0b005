"""Scripts that set no blanks between words: what is a word there, the rules of several methods do not know."""

import numpy as np
import regex

UNSPACED = regex.compile(
    r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}"
    r"\p{Script=Myanmar}\p{Script=Tibetan}]"
)
MOSTLY = 0.5  # of the characters of a text's words


def unspaced_characters(text: str) -> int:
    """How many characters are of such scripts."""
    return 0 if text.isascii() else len(UNSPACED.findall(text))


def told_unspaced(share: np.ndarray, consequence: str) -> tuple[int, list[str]]:
    """How many texts are mostly in such scripts, and the warning that says so with the consequence, if there are any.

    share: (texts,), of the characters of each text's words; NaN for a text of no words.
    """
    rows = int((share > MOSTLY).sum())
    where = "are mostly in scripts without blanks between words (Chinese, Japanese, Thai, ...)"
    return rows, [f"{rows:,} rows {where}, where {consequence}"] if rows else []


def word_count(text: str) -> int:
    """Words between blanks; of scripts without blanks between words, each character is one."""
    return len((text if text.isascii() else UNSPACED.sub(" x ", text)).split())
