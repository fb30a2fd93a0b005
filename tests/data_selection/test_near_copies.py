"""Rows without near copies: the exact ones, vectors of zeros, vectors that are all equal."""

import numpy as np
import pytest

from data_common.messages.errors import UserError
from data_selection.near_copies import without_near_copies


def test_of_exact_copies_the_first_stays_in_whatever_cluster():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(40, 6)).astype(np.float16)
    copies = vectors[generator.permutation(np.repeat(np.arange(40), 3))]
    for similarity in (0.99999, 1.0, 5.0):
        kept, facts = without_near_copies(copies, 7, similarity, seed=0)
        first = sorted({row.tobytes(): place for place, row in reversed(list(enumerate(copies)))}.values())
        assert kept.tolist() == first
        assert facts == {"clusters": 7, "exact_copies": 80, "too_similar": 0}


def test_all_equal_all_zeros_and_no_rows():
    for vectors in (np.ones((9, 3), np.float16), np.zeros((9, 3), np.float16)):
        assert without_near_copies(vectors, None, 0.9, 0)[0].tolist() == [0]
        with pytest.raises(UserError, match="2 clusters of 1 rows"):
            without_near_copies(vectors, 2, 0.9, 0)
    assert without_near_copies(np.empty((0, 3), np.float16), 2, 0.9, 0)[0].tolist() == []
