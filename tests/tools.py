"""Programs that a test needs and a machine may lack."""

from __future__ import annotations

import shutil

import pytest


def tool(name: str) -> str:
    """The path of a program; without it the test is skipped, with the reason."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found
