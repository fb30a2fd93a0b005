"""Statistics of a column against numpy."""

import math

import numpy as np
import pytest

from data_common.rows.statistics import QUANTILES, quantiles, z_scores


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_quantiles_are_interpolated_as_numpy_does(n):
    values = np.random.default_rng(0).normal(size=n)
    found = quantiles(values)
    assert list(found) == [f"{q:g}" for q in QUANTILES]
    np.testing.assert_allclose(list(found.values()), np.quantile(values, QUANTILES), rtol=1e-12)
    assert quantiles(values[:0]) == {}


def test_z_scores():
    np.testing.assert_allclose(z_scores(np.array([1.0, 2.0, 3.0])), np.array([-1, 0, 1]) * math.sqrt(1.5))
    for equal in ([], [0.1] * 3, [0.0, -0.0], [1e300]):
        assert z_scores(np.array(equal)).tolist() == [0.0] * len(equal)
    np.testing.assert_allclose(z_scores(np.array([1e300, -1e300])), [1, -1])
