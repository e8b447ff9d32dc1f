"""When a second measured its generator: each limit at its edge, and nothing for want of data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from row_strategies import rows

from loads_queue.model import fitness
from loads_queue.model.histogram import Histogram
from loads_queue.model.summary import Row, total

MS = 1_000_000


def late(*of_a_hundred: tuple[int, int]) -> Histogram:
    """Lateness of starts: so many, each so many nanoseconds."""
    found = Histogram()
    for count, value in of_a_hundred:
        for _ in range(count):
            found.record(value)
    return found


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, ()),
        ({"engines": 1, "cpu_ns": 949 * MS, "busiest_ns": 949 * MS, "wanted_ns": 949 * MS}, ()),
        ({"engines": 1, "cpu_ns": 950 * MS, "busiest_ns": 950 * MS, "wanted_ns": 950 * MS}, ("cpu",)),
        ({"engines": 1, "cpu_ns": 200 * MS, "busiest_ns": 200 * MS, "wanted_ns": 949 * MS}, ()),
        ({"engines": 1, "cpu_ns": 200 * MS, "busiest_ns": 200 * MS, "wanted_ns": 990 * MS}, ("starved",)),
        ({"lag_ns": 50 * MS}, ()),
        ({"lag_ns": 50 * MS + 1}, ("lag",)),
        ({"lateness": late((100, 50 * MS))}, ()),
        ({"lateness": late((99, 1 * MS), (1, 900 * MS))}, ()),
        ({"lateness": late((98, 1 * MS), (2, 51 * MS))}, ("lateness",)),
        ({"dropped_late": 1}, ("dropped_late",)),
        ({"dropped_resource": 1}, ("dropped_resource",)),
        ({"dropped_in_flight": 9, "missed": 9, "failed": 9, "in_flight": 9}, ()),
        ({"busiest_ns": 999 * MS, "lag_ns": 60 * MS, "dropped_late": 3}, ("cpu", "lag", "dropped_late")),
    ],
)
def test_each_limit(row: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert fitness.reasons(Row(**row)) == expected


def test_one_engine_that_is_unfit_among_many_is_enough() -> None:
    idle = [Row(engines=1, cpu_ns=10 * MS, busiest_ns=10 * MS, wanted_ns=10 * MS, lag_ns=MS) for _ in range(99)]
    full = Row(engines=1, cpu_ns=999 * MS, busiest_ns=999 * MS, wanted_ns=999 * MS, lag_ns=MS)
    assert fitness.reasons(total(idle)) == ()
    assert fitness.reasons(total([*idle, full])) == ("cpu",)


@given(rows())
def test_what_was_not_measured_is_not_unfit(row: Row) -> None:
    assert set(fitness.reasons(row)) <= set(fitness.REASONS)
    if not fitness.measured(row) and not row.busiest_ns and not row.wanted_ns:
        assert fitness.reasons(row) == ()
