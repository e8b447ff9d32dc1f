"""What every test shares: hypothesis profiles and markers. Fixtures stand beside the tests that use them."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

SLOW_MACHINE = [HealthCheck.too_slow]
"""How long an example takes to make says something about the machine, nothing about the code."""

settings.register_profile("quick", max_examples=60, deadline=None, suppress_health_check=SLOW_MACHINE)
settings.register_profile("ci", parent=settings.get_profile("quick"), derandomize=True, database=None)
settings.register_profile("thorough", parent=settings.get_profile("quick"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") == "true" else "quick"))


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, so that a misspelt one is an error."""
    config.addinivalue_line("markers", "smoke: also run against the built wheel, in a fresh virtual environment")
