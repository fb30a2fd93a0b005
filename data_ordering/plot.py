"""The picture of an ordering: score against position in the file, with the moving mean."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_common.files.atomic import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_POINTS = 5_000  # of a panel; more are not seen
DPI = 80
SPANS = 25  # the moving mean is over one 25th of the file


def draw(score: np.ndarray, title: str, path: Path) -> None:
    """Write the picture of `score`, (n,) in the order of the file, as PNG.

    Raises: UserError where `path` cannot be written.
    """
    save_figure(path, figure({title: score}), DPI)


def figure(panels: dict[str, np.ndarray], columns: int = 1) -> "Figure":
    """One panel for each title and its scores, (n,) in the order of the file; at least one."""
    from matplotlib.figure import Figure

    rows = math.ceil(len(panels) / columns)
    sheet = Figure(figsize=(max(7, 4 * columns), 3 * rows + 0.5), layout="constrained")
    for number, (title, score) in enumerate(panels.items(), 1):
        axes = sheet.add_subplot(rows, columns, number)
        position, value, mean = thinned(score)
        axes.plot(position, value, ".", markersize=3, alpha=0.5, color="C0", label="score")
        axes.plot(position, mean, color="C1", label="moving mean")
        axes.set_title(title, fontsize="medium", parse_math=False)  # file names may hold a $
        axes.set(xlabel="position in the file", ylabel="score")
    sheet.legend(*axes.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return sheet


def thinned(score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, their scores, and the moving mean around them, each (m,), m at most MOST_POINTS. score: (n,).

    One row of every stretch of the file is drawn, at a random place of it, so that a pattern with the period of the
    stretches is not mistaken for a line; the mean is over all rows.
    """
    if not len(score):
        return np.arange(0), score, score
    score = np.clip(score, -1e300, 1e300)  # sums and axes beyond overflow
    begins = np.arange(0, len(score), math.ceil(len(score) / MOST_POINTS))
    lengths = np.diff(begins, append=len(score))
    position = begins + np.random.default_rng(0).integers(lengths)
    window = np.ones(2 * (len(begins) // (2 * SPANS)) + 1)
    mean = np.convolve(np.add.reduceat(score, begins), window, "same") / np.convolve(lengths, window, "same")
    return position, score[position], mean
