"""The scale bench, small: a real scheduler and fifty simulated workers lose nothing. What it costs is not judged."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import services

WORKERS, SECONDS = 50, 4


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, which belongs to the repository and to no package."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent)
    return importlib.import_module("bench.scale")


def test_fifty_workers_end_with_a_balanced_ledger(bench: Any) -> None:
    services.program("redis-server")
    found = bench.measure(WORKERS, SECONDS, fleets=1)
    planned = WORKERS * len(bench.STEPS) * bench.RATE * SECONDS
    assert found.balanced
    assert found.planned == planned
    assert 0 < found.started <= planned
    assert found.started + found.missed == planned
    assert found.reports_per_s > 0
    bench.table([found])
