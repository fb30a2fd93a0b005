"""Fixtures of the scoring tests."""

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel


@pytest.fixture
def eager(monkeypatch):
    """Brute force differentiates twice, which fused attention cannot."""
    with sdpa_kernel(SDPBackend.MATH):
        yield
