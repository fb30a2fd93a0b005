"""A sheet with the pictures of all orderings by score, each called with its own configuration.

python -m data_ordering.plot_all docs/orderings.png
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from data_common.calls.config import columns_of, resolve
from data_common.calls.stage import keys_for, load_method, method_names
from data_common.files.atomic import save_figure
from data_common.messages.errors import exit_code
from data_ordering.entry import STAGE
from data_ordering.plot import DPI, figure

COLUMNS = 3


def panels(n: int = 400) -> dict[str, np.ndarray]:
    """Title -> the scores 0..n-1, which lie in the file at random, in the order of each method that reads no groups."""
    score = np.random.default_rng(0).permutation(n).astype(float)
    columns = {"score": score, "n": n}
    sheet = {}
    for name in method_names(STAGE.name):
        method, config = load_method(STAGE, name)
        if "group" in columns_of(method):
            continue
        stage_keys, method_keys = keys_for(STAGE, method)
        values = resolve(stage_keys | method_keys, config, {})
        given = [columns.get(column, score) for column in columns_of(method)]
        sheet[name] = score[method(*given, **{key: values[key] for key in method_keys})]
    return sheet


def main(words: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], prog="python -m data_ordering.plot_all")
    parser.add_argument("picture", type=Path, metavar="OUT.png")
    picture = parser.parse_args(words).picture
    return exit_code(lambda: save_figure(picture, figure(panels(), COLUMNS), DPI))


if __name__ == "__main__":
    sys.exit(main())
