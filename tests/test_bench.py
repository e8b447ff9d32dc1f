"""``make bench-minute`` sees what it should: a dip, a leak, a request that one of three counts lacks."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, which belongs to the repository and to no package."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent)
    return importlib.import_module("bench.figures")


def timeline(*began: int) -> list[dict[str, Any]]:
    """Rows of 100 planned each."""
    return [{"planned": 100, "began": count, "lateness_p50": 0.1} for count in began]


def verdicts(figures: list[Any]) -> list[bool | None]:
    """Which figures are good."""
    return [figure.good for figure in figures]


def test_a_steady_load_is_good(bench: Any) -> None:
    assert verdicts(bench.pacing(timeline(*[100] * 20)))[:2] == [True, True]


def test_a_dip_in_one_second_shows(bench: Any) -> None:
    assert verdicts(bench.pacing(timeline(*[100] * 9, 94, 106, *[100] * 9)))[:2] == [False, True]


def test_a_lag_over_ten_seconds_shows_wherever_they_begin(bench: Any) -> None:
    assert verdicts(bench.pacing(timeline(*[100] * 5, *[98] * 10, *[100] * 5)))[:2] == [True, False]


def test_a_request_that_one_count_lacks_shows(bench: Any) -> None:
    summary = {"ledger": {"balanced": True, "started": 5, "planned": 5}, "requests": {"answered": 5, "sent": 5}}
    assert False not in verdicts(bench.exactness(summary, 5))
    assert False in verdicts(bench.exactness(summary, 4))
    summary["ledger"]["balanced"] = False
    assert False in verdicts(bench.exactness(summary, 5))


def test_memory_that_grows_after_the_first_seconds_shows(bench: Any) -> None:
    flat = bench.Process("engine", [(1.0, 10 << 20), (11.0, 30 << 20), (60.0, 31 << 20)])
    leaky = bench.Process("engine", [(1.0, 10 << 20), (11.0, 30 << 20), (60.0, 40 << 20)])
    assert verdicts(bench.memory({1: flat})) == [True]
    assert verdicts(bench.memory({1: leaky})) == [False]
