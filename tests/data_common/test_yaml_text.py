"""YAML that a user hands in: what no value can be has a reason and a line, and costs no more than its length."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_common.calls.config import load_yaml
from data_common.calls.yaml_text import YamlFault, parse_yaml
from data_common.messages.errors import UserError


def bomb(depth: int = 9) -> str:
    """A few hundred characters that stand for 9 ** depth values."""
    lists = [f"a{n}: &a{n} [{','.join([f'*a{n - 1}' if n else 'x'] * 9)}]" for n in range(depth)]
    return f"{{{', '.join(lists)}}}"


MERGES = "{" + ", ".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 9)) + "}"
FAULTS = [
    (bomb(), "its aliases stand for 490,"),
    (f"{{a0: &a0 {{x: 1}}, {MERGES[1:]}", "its aliases stand for"),
    (f"? {bomb()}\n: 1", "its aliases stand for"),
    ("&a [*a]", "an alias stands for what holds it"),
    ("&a {<<: *a}", "an alias stands for what holds it"),
    ("[" * 3000, "nested too deeply"),
    ("- " * 3000, "nested too deeply"),
    ("{[a]: b}", "found unhashable key"),
    ("{a: 1, a: 2}", "a is set twice"),
    ("9" * 5000, "no value of its kind"),
    ("0x" + "f" * 5000, "an integer of too many digits"),
    ("59:" * 3000 + "1", "an integer of too many digits"),
    ("0b_", "no value of its kind"),
    ("!!bool x", "no value of its kind"),
    ("!!int", "no value of its kind"),
    ("!!timestamp x", "no value of its kind"),
    ("!!python/name:os.system", "could not determine a constructor"),
    ('"\\U00110000"', "chr() arg not in range"),
    ("a\tb", "cannot start any token"),
    ("\0", "special characters are not allowed"),
    ("\udcff", "special characters are not allowed"),
]


@pytest.mark.parametrize(("text", "reason"), FAULTS, ids=[text[:12] for text, _ in FAULTS])
def test_what_is_no_value_has_a_reason_at_once(text, reason):
    started = time.process_time()
    with pytest.raises(YamlFault) as fault:
        parse_yaml(text)
    assert reason in str(fault.value)
    assert time.process_time() - started < 2


def test_what_is_read():
    assert parse_yaml("[2020-13-45, 2020-01-31, 1e3, 010, ~]") == ["2020-13-45", "2020-01-31", "1e3", 8, None]
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: [*a, *a]") == {
        "a": {"x": 1},
        "b": {"x": 2},
        "c": [{"x": 1}, {"x": 1}],
    }
    assert parse_yaml("9" * 4000) == int("9" * 4000)


TAGS = ["!!int ", "!!bool ", "!!set ", "!!omap ", "!!binary ", "!!timestamp ", "!!pairs ", "!x "]
SIGNS = [
    "&a ",
    "*a",
    "[",
    "]",
    "{",
    "}",
    ": ",
    ", ",
    "- ",
    "? ",
    "<<",
    "'",
    '"',
    "\\x",
    "|",
    "> ",
    "#",
    "%",
    "~",
    "\t",
    "\n",
    "\n  ",
]
WORDS = ["a", "1", "0x_", "._", "1:2", "2020-13-45", ".inf", "\x85"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from([*TAGS, *SIGNS, *WORDS]), max_size=14).map("".join))
def test_no_text_raises_anything_else(text):
    try:
        parse_yaml(text)
    except YamlFault as fault:
        assert str(fault)


def test_a_file_is_named_with_line_and_key(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb: &b [*b]\n")
    with pytest.raises(UserError, match=rf"^{path}:2: broken YAML: an alias stands for what holds it$"):
        load_yaml(path)
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(UserError, match=rf"^fsdp: {path}: not UTF-8 text$"):
        load_yaml(path, "fsdp")
