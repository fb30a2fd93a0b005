"""Facts of a manifest."""

import numpy as np
import pytest

from common.manifest import QUANTILES, quantiles


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_quantiles_are_interpolated_as_numpy_does(n):
    values = np.random.default_rng(0).normal(size=n)
    found = quantiles(values)
    assert list(found) == [f"{q:g}" for q in QUANTILES]
    np.testing.assert_allclose(list(found.values()), np.quantile(values, QUANTILES), rtol=1e-12)
    assert quantiles(values[:0]) == {}
