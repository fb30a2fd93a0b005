import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_common.calls.cli import main
from data_common.messages.errors import UserError
from data_selection.entry import STAGE
from data_selection.quantile.method import select

SCORE = np.array([17.0, 12, 10, 19, 14, 16, 11, 18, 15, 13])


@pytest.mark.parametrize(
    ("lower", "upper", "kept"),
    [
        (0, 0.3, [10, 11, 12]),
        (0.3, 0.6, [13, 14, 15]),
        (0.6, 1, [16, 17, 18, 19]),
        (0.29, 0.71, [12, 13, 14, 15, 16]),
        (0, 1, list(range(10, 20))),
        (0.5, 0.5, []),
    ],
)
@pytest.mark.parametrize("direction", [None, "higher", "lower"])
def test_raw_bounds(lower, upper, kept, direction):
    assert sorted(SCORE[select(SCORE, direction, lower_quantile=lower, upper_quantile=upper)]) == kept


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        ({"lower_quantile": 0.1}, [11, 12]),
        ({"upper_quantile": 0.2}, [10, 11]),
        ({"lower_quantile": 0.0}, [10, 11, 12]),
    ],
)
def test_the_other_bound_has_the_default_that_it_always_had(bounds, kept):
    assert sorted(SCORE[select(SCORE, "higher", **bounds)]) == kept


@pytest.mark.parametrize(
    ("direction", "band", "kept"),
    [
        ("higher", "head", [17, 18, 19]),
        ("higher", None, [17, 18, 19]),
        ("higher", "middle", [14, 15, 16]),
        ("higher", "tail", [10, 11, 12, 13]),
        ("lower", "head", [10, 11, 12]),
        ("lower", None, [10, 11, 12]),
        ("lower", "middle", [13, 14, 15]),
        ("lower", "tail", [16, 17, 18, 19]),
    ],
)
def test_bands_by_quality(direction, band, kept):
    assert sorted(SCORE[select(SCORE, direction, band=band)]) == kept


@given(st.lists(st.integers(0, 5)))
def test_bands_by_quality_hold_every_row_once_and_turn_with_the_scores(score):
    score = np.array(score, float)
    bands = [select(score, "higher", band=band) for band in ("head", "middle", "tail")]
    assert sorted(np.concatenate(bands)) == list(range(len(score)))
    assert all(above.min() >= below.max() for above, below in pairwise(score[band] for band in bands if len(band)))
    for name, band in zip(("head", "middle", "tail"), bands, strict=True):
        assert select(-score, "lower", band=name).tolist() == band.tolist()


def test_a_band_wants_a_direction_and_no_bounds():
    with pytest.raises(UserError, match="which scores are better"):
        select(SCORE, None)
    with pytest.raises(UserError, match="which scores are better"):
        select(SCORE, None, band="tail")
    with pytest.raises(UserError, match="band=head is by quality, lower_quantile and upper_quantile are of raw scores"):
        select(SCORE, "higher", band="head", upper_quantile=0.5)


def test_equal_scores_rank_in_the_order_of_the_input():
    score = np.array([1.0, 0.0, 1.0, 1.0])
    assert sorted(select(score, None, lower_quantile=0, upper_quantile=0.5)) == [0, 1]
    assert sorted(select(score, None, lower_quantile=0.5, upper_quantile=1)) == [2, 3]


def test_cuts_are_taken_as_they_are_written():
    assert len(select(np.arange(100.0), None, lower_quantile=0, upper_quantile=0.29)) == 29  # 28.999... in binary


@given(st.lists(st.integers(0, 5)), st.lists(st.floats(0, 1), max_size=4))
def test_adjacent_bands_hold_every_row_once_and_climb(score, cuts):
    score, cuts = np.array(score, float), [0.0, *sorted(cuts), 1.0]
    bands = [select(score, None, lower_quantile=lower, upper_quantile=upper) for lower, upper in pairwise(cuts)]
    assert sorted(np.concatenate(bands)) == list(range(len(score)))
    filled = [score[band] for band in bands if len(band)]
    assert all(below.max() <= above.min() for below, above in pairwise(filled))


def test_a_band_that_ends_before_it_begins():
    with pytest.raises(UserError, match=r"lower_quantile=0\.6 is above upper_quantile=0\.3"):
        select(np.zeros(3), None, lower_quantile=0.6, upper_quantile=0.3)


@pytest.fixture
def call(tmp_path):
    """Words -> the perplexities that are kept of 30, 10, 40, 20, each ten times, and what the manifest says of them."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"perplexity": {value + n / 10}}}\n' for n in range(10) for value in (30, 10, 40, 20)))

    def call(*words, field="score_field=perplexity"):
        assert main(STAGE, [str(source), str(out), "quantile", field, *words]) == 0
        facts = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
        return {json.loads(line)["perplexity"] // 10 * 10 for line in out.read_text().split("\n")[:-1]}, facts["band"]

    call.source = source
    return call


@pytest.mark.parametrize("direction", ["auto", "lower", "higher"])
def test_raw_bounds_are_the_same_in_any_direction(call, direction):
    assert call("lower_quantile=0", "upper_quantile=0.5", f"direction={direction}")[0] == {10, 20}


@pytest.mark.parametrize(
    ("words", "kept", "band"),
    [
        ([], {10, 20}, "the lowest scores, the best ones"),  # of a field named after a method that says so
        (["direction=lower"], {10, 20}, "the lowest scores, the best ones"),
        (["direction=higher"], {40, 30}, "the highest scores, the best ones"),
        (["direction=higher", "band=head"], {40, 30}, "the highest scores, the best ones"),
        (["direction=higher", "band=tail"], {10, 20}, "the lowest scores, the worst ones"),
        (["direction=higher", "band=middle"], {30, 20}, "scores between the lowest and the highest"),
        (["direction=lower", "band=tail"], {30, 40}, "the highest scores, the worst ones"),
        (["direction=higher", "lower_quantile=0", "upper_quantile=0.3"], {10, 20}, "the lowest scores, the worst ones"),
        (["direction=higher", "lower_quantile=0", "upper_quantile=1"], {10, 20, 30, 40}, "all rows"),
        (["direction=higher", "lower_quantile=1", "upper_quantile=1"], set(), "no row"),
    ],
)
def test_the_summary_and_the_manifest_say_which_end_is_kept(call, capsys, words, kept, band):
    assert call(*words) == (kept, band)
    assert f"\n  kept: {band}\n" in capsys.readouterr().out


def test_of_raw_scores_without_a_direction_the_end_is_told_too(call, capsys):
    call.source.write_text("".join(f'{{"mine": {n}, "perplexity": {n}}}\n' for n in range(40)))
    words = ["quantile", "score_field=mine"]
    assert main(STAGE, [str(call.source), str(call.source.with_name("out.jsonl")), *words]) == 2
    error = capsys.readouterr().err
    assert "Set direction=higher or direction=lower" in error and "lower_quantile" in error and error.count("\n") == 1
    assert call("lower_quantile=0", field="score_field=mine") == ({0, 10}, "the lowest scores")


def test_of_groups_both_ends_may_be_kept(tmp_path):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"score": {n}, "g": {n // 10}}}\n' for n in range(20)))
    assert main(STAGE, [str(source), str(out), "quantile", "group_field=g", "direction=higher"]) == 0
    assert [json.loads(line)["score"] for line in out.read_text().split("\n")[:-1]] == [7, 8, 9, 17, 18, 19]
    source.write_text('{"score": 1}\n' * 10)
    assert main(STAGE, [str(source), str(out), "quantile", "direction=higher"]) == 0
    facts = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert facts["rows_out"] == 3 and facts["band"] == "of the lowest and of the highest scores"


def test_results_of_the_old_default_are_not_taken_for_those_of_today(tmp_path, capsys):
    """The configuration of an old call has its bounds; that of one with the same bounds said is an old version."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"score": {n}}}\n' for n in range(10)))
    words = [str(source), str(out), "quantile", "direction=higher"]
    assert main(STAGE, [*words, "lower_quantile=0", "upper_quantile=0.3"]) == 0
    record = tmp_path / "out.jsonl.manifest.json"
    content = json.loads(record.read_text())
    del content["method_versions"], content["config"]["band"]
    record.write_text(json.dumps(content))
    assert main(STAGE, words) == 0
    assert out.read_text() == '{"score": 7}\n{"score": 8}\n{"score": 9}\n'
    record.write_text(json.dumps(content))
    out.write_text('{"score": 0}\n{"score": 1}\n{"score": 2}\n')
    capsys.readouterr()
    assert main(STAGE, [*words, "lower_quantile=0", "upper_quantile=0.3"]) == 0
    assert "results of quantile changed in version 2: without bounds it keeps the best 30 %" in capsys.readouterr().out
    assert out.read_text() == '{"score": 0}\n{"score": 1}\n{"score": 2}\n'
