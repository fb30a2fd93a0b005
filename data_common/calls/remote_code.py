"""Python code that comes with a model or tokenizer: it runs only in a call that says trust_remote_code=true.

Needs no torch.
"""

import functools
import sys
from collections.abc import Mapping
from typing import Any

from data_common.messages.visible import visible

KEY = "trust_remote_code"
PACKAGE = "transformers_modules"  # in which transformers imports such code

_ran: list[str] = []  # folders and hub ids whose code was run


def identity(trusted: bool) -> dict[str, bool]:
    """What the key adds to the identity of a step: nothing where it is false, so that earlier work stays valid."""
    return {KEY: True} if trusted else {}


def is_refusal(error: BaseException) -> bool:
    """Whether an error of transformers says that there is code which it would have to run."""
    return isinstance(error, ValueError) and KEY in str(error)


def refusal(path: str, what: str) -> str:
    """The message for the user. what: tokenizer, model, ..."""
    return f"the {what} of {path} needs Python code that comes with it, which is not run: {KEY}=true if you trust it"


def loaded() -> set[str]:
    """The modules of such code that this process has run."""
    return {name for name in sys.modules if name.startswith(f"{PACKAGE}.")}


def comes_with(part: Any) -> bool:
    """Whether the class of a model, configuration or tokenizer was loaded from such code."""
    return type(part).__module__.split(".")[0] == PACKAGE


@functools.cache
def tell(path: str, runs: bool) -> None:
    """Print, once for each path, that its code runs, or that it has some which is not needed and is not run."""
    if runs:
        _ran.append(path)
        print(f"{KEY}=true: running the Python code of {visible(path)}")
    else:
        print(f"note: {visible(path)} comes with Python code that is not needed and not run ({KEY}=true runs it)")


def summary(config: Mapping[str, Any]) -> None:
    """Print, at the end of a call that allows it, whose code was run."""
    if config.get(KEY) or config.get(f"select.{KEY}"):
        ran = visible(f"ran the Python code of {', '.join(_ran)}" if _ran else "no such code was run")
        print(f"  {KEY}=true: {ran}")
