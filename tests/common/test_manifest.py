"""Facts of a manifest."""

import numpy as np
import pytest

from common.manifest import QUANTILES, fingerprint, quantiles, same_content


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_quantiles_are_interpolated_as_numpy_does(n):
    values = np.random.default_rng(0).normal(size=n)
    found = quantiles(values)
    assert list(found) == [f"{q:g}" for q in QUANTILES]
    np.testing.assert_allclose(list(found.values()), np.quantile(values, QUANTILES), rtol=1e-12)
    assert quantiles(values[:0]) == {}


def test_files_that_match_a_glob_are_known_by_their_content(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            (tmp_path / folder / f"{name}.jsonl").write_text(name)
    one, two = (fingerprint(tmp_path / folder / "*.jsonl") for folder in ("one", "two"))
    assert one["bytes"] == 2 and same_content(one, two)
    (tmp_path / "two/a.jsonl").write_text("c")
    assert not same_content(one, fingerprint(tmp_path / "two/*.jsonl"))
    assert fingerprint(tmp_path / "*.txt") == {"id": str(tmp_path / "*.txt")}
