"""Secrets of the environment, such as HF_TOKEN, in no message, traceback or log line: `***` stands there.

Needs no library: it is the first thing that a command does, before others can print.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO
from urllib.parse import quote, urlsplit

STRIPPED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")  # that libraries read as they stand
SECRET = re.compile(  # names of variables that hold one
    r"(TOKEN|API_?KEY|PASSWORD|PASSWD|PASSPHRASE|SECRET|(SECRET|ACCESS|PRIVATE)_KEY|(^|_)PAT)$"
)
SHORTEST = 6  # characters; what is shorter is no secret, and may be part of any word
HIDDEN = "***"
_public: set[str] = set()


def protect_secrets() -> None:
    """Strip the tokens that libraries read, and let standard output and error hide all secrets from now on."""
    for name in STRIPPED:
        if name in os.environ and os.environ[name] != os.environ[name].strip():
            os.environ[name] = os.environ[name].strip()
    if any(_secrets()):
        sys.stdout, sys.stderr = map(_hiding, (sys.stdout, sys.stderr))


def publish_names(names: Iterable[str]) -> None:
    """Names that the documentation has, of keys say: a secret that is one of them, or a part of one, is not hidden."""
    _public.update(names)


def redact(text: str) -> str:
    """`text` with HIDDEN in place of every secret of the environment, as it is or in the escapes of Python and URLs."""
    forms = {form for secret in _secrets() for form in _forms(secret) if len(form) >= SHORTEST}
    forms = {form for form in forms if not any(form in name for name in _public)}
    if not forms:
        return text
    longest_first = sorted(forms, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), HIDDEN, text)


def redacted(value: Any) -> Any:
    """`redact` for the texts of a configuration, before it is written as YAML, in which a bare `***` is an alias."""
    if isinstance(value, dict):
        return {key: redacted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [redacted(one) for one in value]
    return redact(value) if isinstance(value, str) else value


def _secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        if SECRET.search(name.upper()):
            yield value
        elif "://" in value and "@" in value:  # a proxy or an endpoint
            try:
                yield urlsplit(value).password or ""
            except ValueError:  # no address after all
                continue


def _forms(secret: str) -> Iterable[str]:
    escaped = repr(secret)[1:-1], repr(secret.encode("utf-8", "surrogateescape"))[2:-1], json.dumps(secret)[1:-1]
    return (secret, *secret.split(), *escaped, quote(secret, safe="", errors="surrogateescape"))


class _Hiding:
    """A text stream in which secrets are hidden; all else is that of the stream."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _hiding(stream: TextIO | None) -> Any:
    return stream if stream is None or isinstance(stream, _Hiding) else _Hiding(stream)
