"""Normalisation: literals, and against the steps one after the other, sign by sign."""

# ruff: noqa: RUF001 - the signs are meant

import re
import sys
import unicodedata
from dataclasses import replace

import pytest

from data_scoring.kenlm.normalization import PRESETS, PUNCTUATION
from data_scoring.kenlm.tokenization import words

EVERY = "".join(map(chr, [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]))  # without surrogates


def step_by_step(text: str, lowercase: bool, accents: bool) -> str:
    """What CCNet's normalisation does, in its order."""
    text = text.strip()
    if lowercase:
        text = text.lower()
    if accents:
        text = "".join(sign for sign in unicodedata.normalize("NFD", text) if unicodedata.category(sign) != "Mn")
    text = re.sub(r"\d", "0", text)
    for ascii_sign, signs in PUNCTUATION.items():
        for sign in signs:
            text = text.replace(sign, ascii_sign)
    return re.sub("[\x00-\x1f\x7f-\x9f]", "", text)


@pytest.mark.parametrize(("preset", "lowercase", "accents"), [("ccnet", True, True), ("edugp", False, False)])
def test_every_sign_of_unicode_as_step_by_step(preset, lowercase, accents):
    text = "a " + "b".join(EVERY[i : i + 100] for i in range(0, len(EVERY), 100)) + " z"
    assert PRESETS[preset](text) == step_by_step(text, lowercase, accents)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("ccnet", 'ecole 0000: "oui" - non...next'),
        ("edugp", 'École 0000: "Oui" - non...next'),
        ("none", "École 1984: «Oui»—non… next"),
    ],
)
def test_presets(preset, expected):
    assert PRESETS[preset]("  École 1984: «Oui»—non…\nnext\t") == expected


def test_keys_of_their_own_go_before_the_preset():
    only_digits = replace(PRESETS["none"], normalize_digits=True)
    assert only_digits("É 12") == "É 00"
    assert replace(PRESETS["ccnet"], lowercase=False)("É 12") == "E 00"


def test_punctuation_removed_but_apostrophes():
    removed = replace(PRESETS["ccnet"], punctuation="remove")
    assert removed("Well-known — “it’s” (ok)!").split() == ["well", "known", "it's", "ok"]


def test_words():
    assert words("it's well-known, isn't it? 3.5%") == ["it's", "well", "-", "known", ",", "isn't", "it", "?", *"3.5%"]
    assert words("'quoted' a' <s>") == ["'", "quoted", "'", "a", "'", "<", "s", ">"]
    assert words(" \t") == []
