import numpy as np
import pytest

from data_common.calls.stage import REPOSITORY, method_names
from data_common.messages.errors import UserError
from data_ordering import plot_all
from data_ordering.plot import MOST_POINTS, SPANS, draw, figure, thinned


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_draw_writes_a_png_and_the_same_twice(tmp_path):
    score = np.random.default_rng(0).random(20_000)
    for name in ("one.png", "two.png"):
        draw(score, "ordered by chance", tmp_path / name)
    assert is_png(tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_draw_where_nothing_can_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        draw(np.arange(3.0), "title", tmp_path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("score", [[], [0.0], [3.0, 3.0], [5e-324, 0.0], [1.7e308, -1.7e308], [1.7e308] * 300], ids=len)
def test_few_or_extreme_scores(score, tmp_path):
    draw(np.array(score), "a title $x^{ as it is", tmp_path / "picture.png")
    assert is_png(tmp_path / "picture.png")


def test_of_few_rows_all_are_drawn_with_the_mean_of_their_neighbours():
    n = 8 * SPANS
    score = np.random.default_rng(0).random(n)
    position, value, mean = thinned(score)
    assert position.tolist() == list(range(n)) and value.tolist() == score.tolist()
    np.testing.assert_allclose(mean, [score[max(0, i - 4) : i + 5].mean() for i in range(n)])


def test_of_many_rows_even_stretches_are_drawn_and_the_mean_is_over_all():
    n = 7 * MOST_POINTS + 3
    score = np.zeros(n)
    score[0::8] = 8.0  # as many stretches as this pattern has periods would show one value only
    position, value, mean = thinned(score)
    assert len(position) <= MOST_POINTS and (position // 8 == np.arange(len(position))).all()
    assert value.mean() == pytest.approx(1, abs=0.2)
    np.testing.assert_allclose(mean, 1, rtol=0.05)


def test_the_sheet_has_a_panel_for_each_method(tmp_path):
    panels = plot_all.panels()
    assert list(panels) == [name for name in method_names("data_ordering") if name not in ("domain-upsampling", "spt")]
    titles = [axes.get_title() for axes in figure(panels, plot_all.COLUMNS).axes]
    assert titles == list(panels)
    repeated = {name for name, score in panels.items() if sorted(score) != list(range(400))}
    assert repeated == {"replay"} and set(panels["replay"]) == set(range(400))
    assert plot_all.main([str(tmp_path / "sheet.png")]) == 0
    assert is_png(tmp_path / "sheet.png") and (tmp_path / "sheet.png").stat().st_size < 200_000


def test_the_page_explains_each_method():
    page = (REPOSITORY / "docs/orderings.md").read_text(encoding="utf-8")
    for name in method_names("data_ordering"):
        assert f"\n## {name}\n" in page
