"""The table of row inputs: what each name is filled with, by small files and by hand; mistakes."""

import inspect
import json
import re
from collections.abc import Mapping

import numpy as np
import pytest

from data_common.calls.stage import REPOSITORY
from data_common.messages.errors import UserError
from data_common.row_methods.row_method import RowMethod
from data_common.row_methods.table import ORDERING_INPUTS, SELECTION_INPUTS, input_keys, inputs_of
from data_common.rows.columns import scan
from data_common.rows.jsonl import open_source

ROWS = [
    {"a": 1, "b": 5, "lang": "en", "text": "x" * 9},
    {"a": 3, "b": 4, "lang": 7, "text": ""},
    {"a": 2, "b": 6, "lang": True, "text": "xx"},
    {"a": 0, "b": 1, "lang": 7.0, "text": "x"},
]


def asking_for(names):
    """A row method with these positional parameters, which gives what it was given."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD

    def method(*given):
        return list(given)

    method.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    return method


def filled(folder, names, keys, declared: Mapping[str, str] = {}, table=SELECTION_INPUTS, take=None):
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    method = asking_for(names)
    defaults = {name: key.default for name, key in input_keys(method, table).items()}
    row_method = RowMethod(method, {}, defaults | keys, table)
    with open_source(str(path)) as source:
        rows = scan(source, row_method.columns())
        rows = rows if take is None else rows.take(np.array(take))
        result, _ = row_method.call(row_method.values(source, rows, row_method.directions(declared)))
    return [one.tolist() if isinstance(one, np.ndarray) else one for one in result]


def test_what_each_name_is_given(tmp_path):
    names = ["n", "row_number", "score", "raw_score", "direction", "a"]
    expected = [4, [0, 1, 2, 3], [-5, -4, -6, -1], [5, 4, 6, 1], "lower", [1, 3, 2, 0]]
    assert filled(tmp_path, names, {"score_field": "b"}, {"b": "lower"}) == expected
    assert filled(tmp_path, ["score", "higher_is_better"], {"score_field": "b"}, {"b": "lower"}) == [
        [5, 4, 6, 1],
        False,
    ]
    assert filled(tmp_path, ["token_count"], {}) == [[3, 0, 1, 1]]
    assert filled(tmp_path, ["token_count"], {"tokens_field": "b"}) == [[5, 4, 6, 1]]


def test_a_row_s_vector_follows_from_its_text(tmp_path, monkeypatch):
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    for row, text in enumerate(("red car", "red car", "blue boat", "car")):
        monkeypatch.setitem(ROWS[row], "text", text)
    [vectors] = filled(tmp_path, ["embedding"], {})
    cosines = np.array(vectors) @ np.array(vectors).T
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-3)
    assert vectors[0] == vectors[1] and abs(cosines[0, 2]) < 1e-3 < 0.3 < cosines[0, 3] < 0.9
    [part] = filled(tmp_path, ["embedding"], {"embedding_dimensions": 2}, take=[3, 0])
    assert np.shape(part) == (2, 2)


def test_a_row_without_a_token_has_no_vector(tmp_path, monkeypatch):
    monkeypatch.setenv("DELT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"in.jsonl:2: no token that embedder=tfidf knows \(1 such rows; "):
        filled(tmp_path, ["embedding"], {})


def test_in_ordering_a_score_is_as_it_is_and_has_no_direction(tmp_path):
    assert filled(tmp_path, ["score"], {"score_field": "b"}, {"b": "lower"}, ORDERING_INPUTS) == [[5, 4, 6, 1]]
    assert "direction" not in input_keys(asking_for(["score", "token_count", "group"]), ORDERING_INPUTS)
    assert inputs_of(asking_for(["scores"]), ORDERING_INPUTS) == inputs_of(asking_for(["scores"]), SELECTION_INPUTS)


def test_each_of_several_scores_is_turned_by_its_own_direction(tmp_path):
    both = {"score_fields": ["b", "a"]}
    expected = [[[-5, 1], [-4, 3], [-6, 2], [-1, 0]]]
    assert filled(tmp_path, ["scores"], both, {"a": "higher", "b": "lower"}) == expected
    assert filled(tmp_path, ["scores"], both | {"lower_is_better": ["b"]}) == expected
    assert filled(tmp_path, ["scores"], both | {"lower_is_better": ["b"]}, {"b": "higher"}) == expected  # said is said
    assert filled(tmp_path, ["scores"], both | {"lower_is_better": []}, {"b": "lower"}) == expected


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"score_fields": ["b", "a"]},
            "higher or lower values better in a? .* as in lower_is_better=.a.; .. where none",
        ),
        ({"score_fields": ["b", "b"]}, "score_fields: name each field once"),
        ({"score_fields": []}, "score_fields: name each field once"),
        ({"score_fields": ["b"], "lower_is_better": ["a"]}, "lower_is_better: a is not one of score_fields"),
    ],
)
def test_scores_of_unknown_direction(tmp_path, keys, message):
    with pytest.raises(UserError, match=message.replace("?", "[?]")):
        filled(tmp_path, ["scores"], keys, {"b": "lower"})


def test_groups_are_numbered_by_first_appearance_among_the_rows_in_question(tmp_path):
    names, keys = ["group", "groups"], {"group_field": "lang"}
    assert filled(tmp_path, names, keys) == [[0, 1, 2, 1], ["en", "7", "true"]]
    assert filled(tmp_path, names, keys, take=[2, 3]) == [[0, 1], ["true", "7"]]
    assert filled(tmp_path, names, keys, take=[3, 3, 0]) == [[0, 0, 1], ["7", "en"]]
    assert filled(tmp_path, names, {}) == [[0, 0, 0, 0], ["all"]]


def test_two_groups_of_one_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(ROWS[2], "lang", "7")
    with pytest.raises(UserError, match="lang has 7 as a text and as a number"):
        filled(tmp_path, ["groups"], {"group_field": "lang"})


@pytest.mark.parametrize("name", SELECTION_INPUTS)
def test_every_input_is_told_and_has_an_example_of_any_length(name):
    page = (REPOSITORY / "docs/adding-a-method.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| `{name}`", page, re.MULTILINE), f"{name} is not in the table of docs/adding-a-method.md"
    for key in input_keys(asking_for([name]), SELECTION_INPUTS).values():
        assert key.help and (key.name == "score_fields" or key.default is not inspect.Parameter.empty)
        assert f"`{key.name}`" in page
    method = asking_for([name])
    defaults = {key.name: key.default for key in input_keys(method, SELECTION_INPUTS).values()}
    [one] = RowMethod(method, {}, defaults | {"score_fields": ["a", "b"]}, SELECTION_INPUTS).inputs.values()
    for n in (0, 1, 5):
        example = one.example(np.zeros(n))
        assert not isinstance(example, np.ndarray) or len(example) == n


def test_a_method_may_tell_facts_beside_its_result():
    def method(n):
        return np.arange(n), {"told": n}

    assert RowMethod(method, {}, {}, SELECTION_INPUTS).call({"n": 3})[1] == {"told": 3}
