"""Fixtures of the engine's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from engine_harness import EngineProcess
from engine_targets import DemoTarget


@pytest.fixture(params=["http"])
def engine(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    """An engine process; every engine keeps the same contract."""
    found = EngineProcess(request.param)
    yield found
    found.close()


@pytest.fixture(scope="session")
def demo() -> Iterator[DemoTarget]:
    """The demo target, for the whole session."""
    found = DemoTarget()
    yield found
    assert found.close() == 0
