"""What the conformance tests share: a Google cloud of its own for each test."""

from __future__ import annotations

import pytest

from tests.conformance.google_lab import Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()
