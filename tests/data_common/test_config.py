"""Keys that a signature takes as a dataclass: the same flat keys, help lines and errors as keyword parameters."""

from dataclasses import dataclass

import pytest

from data_common.calls.config import Key, build, keys_of, resolve
from data_common.messages.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Of the inside.

    Args:
        width: how wide
        depth: how deep
    """

    width: int = 3
    depth: int = 4

    def __post_init__(self):
        if self.width > self.depth:
            raise UserError("wider than deep")


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Of both.

    Args:
        name: what it is called
        depth: how deep, as the outside has it
    """

    name: str
    inner: Inner


class Method:
    """A method.

    Args:
        last: comes last
        name: the name, as the method has it
    """

    def __init__(self, *, outer: Outer, last: float = 0.5):
        self.outer, self.last = outer, last


def test_fields_are_flat_keys_in_order_with_the_help_of_the_outermost():
    keys = keys_of(Method)
    assert list(keys) == ["name", "width", "depth", "last"]
    assert keys["width"] == Key("width", int, 3, "how wide")
    assert keys["name"].help == "the name, as the method has it" and keys["last"].default == 0.5
    assert keys["depth"].help == "how deep, as the outside has it"


def test_values_come_as_the_dataclasses():
    method = build(Method, resolve(keys_of(Method), None, {"name": "x", "depth": "9", "last": "2"}))
    assert method.outer == Outer(name="x", inner=Inner(width=3, depth=9)) and method.last == 2
    assert build(Method, {"name": "y"}).outer.inner == Inner()


def test_what_is_wrong_is_said_by_the_dataclass_or_by_the_keys():
    with pytest.raises(UserError, match="wider than deep"):
        build(Method, {"name": "x", "width": 5})
    with pytest.raises(UserError, match="name is not set"):
        resolve(keys_of(Method), None, {})
