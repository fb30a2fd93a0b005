"""Scores of a list of texts, against the same call of the stage; and the page that shows how."""

import json
import re

import numpy as np
import pytest

from data_common.calls.cli import main
from data_common.calls.stage import REPOSITORY
from data_common.messages.errors import UserError
from data_scoring.entry import STAGE, score_texts

TEXTS = ["One line of text, with \u2028 in it.", "buy cheap " * 9, '第三 "quoted" \\ text']


def test_the_values_are_those_of_the_stage(tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    assert main(STAGE, [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "page-features"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    found = score_texts(iter(TEXTS), "page-features")
    assert list(found) == [field for field in rows[0] if field != "text"]
    for field, values in found.items():
        np.testing.assert_array_equal(values, [row[field] for row in rows])


def test_mistakes_are_raised():
    with pytest.raises(UserError, match="did you mean"):
        score_texts(TEXTS, "page-feature")
    with pytest.raises(UserError, match="no text to score"):
        score_texts([""], "page-features")


def test_the_page_does_what_it_says(capsys):
    page = (REPOSITORY / "docs/python.md").read_text(encoding="utf-8")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    assert "[3, 1, 4]" in capsys.readouterr().out
    assert names["found"]["score"][1] > names["found"]["score"][0]
    assert names["order"](np.array([2.0, 1.0])).tolist() == [1, 0]
