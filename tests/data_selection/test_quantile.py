from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.cli import main
from common.errors import UserError
from data_selection.entry import STAGE
from data_selection.quantile.method import select


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
def test_literals(lower, upper, kept):
    score = np.array([17.0, 12, 10, 19, 14, 16, 11, 18, 15, 13])
    assert sorted(score[select(score, lower_quantile=lower, upper_quantile=upper)]) == kept


def test_equal_scores_rank_in_the_order_of_the_input():
    score = np.array([1.0, 0.0, 1.0, 1.0])
    assert sorted(select(score, lower_quantile=0, upper_quantile=0.5)) == [0, 1]
    assert sorted(select(score, lower_quantile=0.5, upper_quantile=1)) == [2, 3]


def test_cuts_are_taken_as_they_are_written():
    assert len(select(np.arange(100.0), lower_quantile=0, upper_quantile=0.29)) == 29  # 28.999... in binary


@given(st.lists(st.integers(0, 5)), st.lists(st.floats(0, 1), max_size=4))
def test_adjacent_bands_hold_every_row_once_and_climb(score, cuts):
    score, cuts = np.array(score, float), [0.0, *sorted(cuts), 1.0]
    bands = [select(score, lower_quantile=lower, upper_quantile=upper) for lower, upper in pairwise(cuts)]
    assert sorted(np.concatenate(bands)) == list(range(len(score)))
    filled = [score[band] for band in bands if len(band)]
    assert all(below.max() <= above.min() for below, above in pairwise(filled))


def test_a_band_that_ends_before_it_begins():
    with pytest.raises(UserError, match=r"lower_quantile=0\.6 is above upper_quantile=0\.3"):
        select(np.zeros(3), lower_quantile=0.6, upper_quantile=0.3)


def test_a_band_of_raw_scores_needs_no_direction(tmp_path, capsys):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"perplexity": {value}}}\n' for value in (30, 10, 40, 20)))
    keys = ["score_field=perplexity", "lower_quantile=0", "upper_quantile=0.5"]
    for direction in ("auto", "lower", "higher"):
        assert main(STAGE, [str(source), str(out), "quantile", *keys, f"direction={direction}"]) == 0
        assert out.read_text() == '{"perplexity": 10}\n{"perplexity": 20}\n'
    assert not capsys.readouterr().err
