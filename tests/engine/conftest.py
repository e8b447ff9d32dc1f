"""Fixtures of the engine's tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import engine_harness
from engine_harness import EngineProcess
from engine_targets import DemoTarget
from loads.workers.engines.drivers import choose
from loads.workers.engines.program import Program

from loads_queue.model.scenario import HttpScenario

EVERY_PATH = ("test_engine_contract", "test_engine_hostile", "test_engine_permit", "test_engine_steering")
"""What must hold whichever driver carries iterations out; the other files take the one that is chosen by itself."""


def _paths() -> list[str]:
    try:
        choose(Program(HttpScenario.from_wire(engine_harness.scenario("http://127.0.0.1:9"))), "compiled")
    except ValueError:
        return ["callbacks", "greenlets"]
    return ["callbacks", "greenlets", "compiled"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """LOADS_ENGINE_PATH makes it one driver for everything."""
    if metafunc.module.__name__.rpartition(".")[2] in EVERY_PATH and "LOADS_ENGINE_PATH" not in os.environ:
        metafunc.parametrize("path", _paths(), indirect=True)


@pytest.fixture(autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The driver of the engines of a test."""
    found: str = getattr(request, "param", engine_harness.PATH)
    monkeypatch.setattr(engine_harness, "PATH", found)
    return found


@pytest.fixture(params=["http"])
def engine(request: pytest.FixtureRequest, path: str) -> Iterator[EngineProcess]:
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
