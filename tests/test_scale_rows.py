"""Rows are checked cheaply and read safely: no text of a worker's stops the ledger, and no count is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loads_queue.model.histogram import Histogram
from loads_queue.model.row_check import check, read
from loads_queue.model.summary import Row, Series

ODD = [None, True, -1, 1.5, "", "x", "AQAAAAAA", "AQAA", [], {}, {"200": -1}, {"x": 1}, {"a": [1]}, 1 << 70]


def row() -> Row:
    times = Histogram()
    times.record(5_000_000, 3)
    series = Series(attempted=3, answered=3, ok=3, response_ok=times, service=times, statuses={200: 3})
    series.checks = {"status": [3, 0]}
    return Row(second=4, started=3, ok=3, lateness=times, iteration_response=times, series={"GET /": series})


def places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in [(value, key), *places(value[key])]]


def counts(found: Row) -> dict[str, Any]:
    return {"row": found.started + found.ok, "series": {name: each.ok for name, each in found.series.items()}}


def test_what_an_engine_measured_is_read_as_it_is() -> None:
    check(row().to_wire())
    assert read(row().to_wire()) == row()


@given(st.data())
def test_whatever_passes_the_check_can_be_read_and_nothing_else_could(data: st.DataObject) -> None:
    wire = row().to_wire()
    container, key = data.draw(st.sampled_from(places(wire)))
    if isinstance(container, dict):
        key = data.draw(st.sampled_from([key, "unknown"]))
    container[key] = data.draw(st.sampled_from(ODD))
    try:
        check(wire)
    except ValueError:
        with pytest.raises(ValueError):
            Row.from_wire(wire)
    else:
        assert isinstance(read(wire), Row)


def test_a_histogram_of_nonsense_costs_its_times_and_no_count() -> None:
    wire = row().to_wire()
    wire["series"]["GET /"]["service"] = wire["lateness"] = "AQAAAAAB"
    check(wire)
    found = read(wire)
    assert counts(found) == counts(row())
    assert found.lateness.count == found.series["GET /"].service.count == 0
    assert found.iteration_response.count == found.series["GET /"].response_ok.count == 3


def test_a_row_before_the_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="before the schedule"):
        check({"second": -4})
