"""Rows whose text spells a special token, such as `</s>`: read as text or as that token, and counted.

A web page that quotes `<s>old price</s>` means the characters; a corpus whose documents were joined by EOS means the
tokens. Which one is said by the key `special_tokens_in_text`, the same in all stages.
"""

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from data_common.files.atomic import manifest_path
from data_common.files.replacing import origins
from data_common.parallel import distributed

KEY = "special_tokens_in_text"
Special = Literal["text", "tokens"]
SHARE = 0.01  # of the rows, above which there is a warning
FACT = "rows_that_spell_special_tokens"


def read_as(tokenizer, special: Special) -> None:
    """Set how the tokenizer reads text that spells a special token of it; what it cannot read as text is told."""
    tokenizer.split_special_tokens = special == "text"
    if special == "text" and (kept := kept_as_tokens(tokenizer)):
        shown = ", ".join(kept[:3]) + (", ..." if kept[3:] else "")
        _tell_once(f"note: this tokenizer takes {shown} in a text for tokens, whatever {KEY} says")


_tell_once = functools.cache(print)


def kept_as_tokens(tokenizer) -> list[str]:
    """Those that it reads as tokens as it is set: where they are pieces or words of its vocabulary like others."""
    names = [name for name in special_names(tokenizer) if name != tokenizer.unk_token]
    encoded = tokenizer([f"a {name} a" for name in names], add_special_tokens=False)["input_ids"] if names else []
    ids = tokenizer.convert_tokens_to_ids(names)
    return sorted(name for name, token, found in zip(names, ids, encoded, strict=True) if token in found)


def special_names(tokenizer) -> list[str]:
    """Texts that the key is about, longest first: special tokens, those without a role (reserved ones, marks of a turn)
    included. A tokenizer in Python that reads special tokens as text reads no added token: there it is all of these.
    """
    added = tokenizer.added_tokens_decoder.values()
    names = {token.content for token in added if token.special or not tokenizer.is_fast}
    return sorted({*names, *tokenizer.all_special_tokens} - {""}, key=lambda name: (-len(name), name))


def pattern_of(tokenizer) -> re.Pattern[str]:
    """Matches every special token of the tokenizer; nothing where it has none."""
    return re.compile("|".join(map(re.escape, special_names(tokenizer))) or "(?!)")


def identity_of(special: Special) -> dict[str, str]:
    """What the key adds to the identity of a step: nothing where it is text, so that earlier work stays valid."""
    return {} if special == "text" else {KEY: special}


class Spelled:
    """Counts texts that spell a special token of a tokenizer while they pass."""

    def __init__(self, tokenizer, special: Special):
        self.pattern = pattern_of(tokenizer)
        self.special, self.texts, self.found, self.example = special, 0, 0, ""

    def __call__(self, texts: Iterable[str]) -> Iterator[str]:
        """The same texts."""
        for text in texts:
            self.count(text)
            yield text

    def count(self, *values: Any) -> None:
        """One text, or the values of a row."""
        self.texts += 1
        if (match := self.first(values)) is not None:
            self.found, self.example = self.found + 1, self.example or match

    def first(self, value: Any) -> str | None:
        """The first special token that a value or what is in it spells; of a rendered conversation, its turns."""
        if isinstance(value, str):
            match = self.pattern.search(getattr(value, "said", value))
            return match and match.group()
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        return next((match for part in parts if (match := self.first(part)) is not None), None)

    def facts(self) -> dict[str, int]:
        """How many there were; nothing where there were none."""
        return {FACT: self.found} if self.found else {}

    def warning(self) -> str | None:
        """What is to be told where there are many."""
        return warning(self.found, self.texts, self.special, self.example)


def warning(found: int, rows: int, special: Special, example: str = "") -> str | None:
    """A warning where more than one row in a hundred spells a special token, such as `example`."""
    if found <= SHARE * rows:
        return None
    spelled = f" (such as {example})" if example else ""
    other = "tokens" if special == "text" else "text"
    return f"{found:,} of {rows:,} rows spell special tokens{spelled}, read as {special}: {KEY}={other} reads {other}"


def about(counted: Mapping[str, int], rows: int, special: Special) -> tuple[dict[str, int], list[str]]:
    """-> (facts, warnings) about rows of which `counted`, the facts of `Spelled`, spell special tokens."""
    found = counted.get(FACT, 0)
    message = warning(found, rows, special)
    return ({FACT: found} if found else {}), ([message] if message else [])


def as_meant(special: Special, shards: Iterable[str]) -> Special:
    """How rows are read: chunks, which spell EOS on purpose, always as tokens, which is told."""
    if special == "tokens" or not joined_by_eos(shards):
        return special
    if distributed.is_main():
        print(f"{KEY}: tokens (the rows are chunks, in which EOS joins documents)")
    return "tokens"


def joined_by_eos(shards: Iterable[str]) -> bool:
    """Whether the rows are chunks in which documents are joined by EOS (granularity=chunk), by the manifests of what
    they were made from."""
    paths = list(shards)
    made = {*paths, *(str(Path(path).parent) for path in paths), *(path for pair in origins(paths) for path in pair)}
    return any(_config(path).get("granularity") == "chunk" for path in made)


def _config(made: str) -> dict[str, Any]:
    try:
        return json.loads(manifest_path(made).read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
