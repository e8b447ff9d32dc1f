"""Rows and sets of rows: absolute by (claim, second), and merging that may be repeated in any order."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_strategies import JSON, rows

from loads_queue.model.sockets import Sockets
from loads_queue.model.summary import ROW_COUNTS, ROW_HISTOGRAMS, ROW_MAXIMA, SERIES_COUNTS, Row, RowSet, Series, total


@st.composite
def reports(draw: st.DrawFn) -> list[tuple[str, int, Row]]:
    """(claim, sequence, row): a claim's row of a second differs from one sequence to the next, never within one."""
    keys = draw(
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4), st.integers(0, 2)), unique=True, max_size=12)
    )
    return [(claim, sequence, Row(second, started=draw(st.integers(0, 9)))) for claim, sequence, second in keys]


def held(taken: list[tuple[str, int, Row]]) -> RowSet:
    found = RowSet()
    for report in taken:
        found.put(*report)
    return found


def merged(*sets: RowSet) -> RowSet:
    found = RowSet()
    for one in sets:
        found.merge(one)
    return found


@given(reports())
def test_the_highest_sequence_is_held(taken: list[tuple[str, int, Row]]) -> None:
    latest: dict[tuple[str, int], tuple[int, Row]] = {}
    for claim, sequence, row in sorted(taken, key=lambda report: report[1]):
        latest[claim, row.second] = sequence, row
    found = held(taken)
    assert len(found) == len(latest)
    assert found.claims() == {claim for claim, _ in latest}
    assert list(found.rows()) == [latest[key][1] for key in sorted(latest, key=lambda key: (key[1], key[0]))]
    for claim in "ab":
        assert list(found.rows(claim)) == [row for (owner, _), (_, row) in sorted(latest.items()) if owner == claim]


@given(reports(), st.data())
def test_reports_may_come_in_any_order_and_more_than_once(
    taken: list[tuple[str, int, Row]], data: st.DataObject
) -> None:
    repeats = data.draw(st.lists(st.sampled_from(taken), max_size=10)) if taken else []
    shuffled = data.draw(st.permutations([*taken, *repeats]))
    assert held(shuffled) == held(taken)


@given(reports(), st.data())
def test_merging_sets_is_associative_commutative_and_repeat_safe(
    taken: list[tuple[str, int, Row]], data: st.DataObject
) -> None:
    owners = data.draw(st.lists(st.integers(1, 7), min_size=len(taken), max_size=len(taken)))
    a, b, c = (held([report for report, who in zip(taken, owners, strict=True) if who & bit]) for bit in (1, 2, 4))
    assert merged(merged(a, b), c) == merged(a, merged(b, c)) == held(taken)
    assert merged(a, b) == merged(b, a)
    assert merged(a, a) == a == merged(a, RowSet())


def test_put_says_whether_it_took_the_row() -> None:
    found = RowSet()
    assert found.put("a", 2, Row(0, started=2))
    assert not found.put("a", 2, Row(0, started=3))
    assert not found.put("a", 1, Row(0, started=1))
    assert found.put("b", 1, Row(0, started=10))
    assert found.put("a", 3, Row(0, started=5))
    assert total(found.rows()).started == 15


@given(rows())
def test_a_row_comes_back_from_json(row: Row) -> None:
    assert Row.from_wire(json.loads(json.dumps(row.to_wire()))) == row


def test_zeros_are_left_out() -> None:
    assert Row(3).to_wire() == {"second": 3}
    assert Series().to_wire() == {}
    assert Row(0, ok=1, series={"GET /": Series(attempted=1)}).to_wire() == {
        "second": 0,
        "ok": 1,
        "series": {"GET /": {"attempted": 1}},
    }


@given(st.lists(rows(), max_size=4))
def test_adding_rows_is_addition_in_any_order(some: list[Row]) -> None:
    found = total(some)
    assert total(some[::-1]) == found
    for name in ROW_COUNTS:
        assert getattr(found, name) == sum(getattr(row, name) for row in some)
    for name in ROW_MAXIMA:
        assert getattr(found, name) == max((getattr(row, name) for row in some), default=0)
    assert found.lateness.count == sum(row.lateness.count for row in some)
    assert found.dropped == sum(row.dropped for row in some)
    for name in {name for row in some for name in row.series}:
        parts = [row.series[name] for row in some if name in row.series]
        whole = found.series[name]
        assert whole.response.sum == sum(part.response.sum for part in parts)
        for count in SERIES_COUNTS:
            assert getattr(whole, count) == sum(getattr(part, count) for part in parts)
        for table in ("statuses", "errors"):
            assert sum(getattr(whole, table).values()) == sum(sum(getattr(part, table).values()) for part in parts)
        for side in (0, 1):
            assert sum(check[side] for check in whole.checks.values()) == sum(
                check[side] for part in parts for check in part.checks.values()
            )


@given(rows(), rows(), rows())
def test_adding_rows_is_associative(one: Row, two: Row, three: Row) -> None:
    assert total([total([one, two]), three]) == total([one, total([two, three])])


@given(rows(), rows())
def test_adding_leaves_what_was_added_alone(one: Row, two: Row) -> None:
    before = one.to_wire(), two.to_wire()
    found = total([one, two])
    found.add(two)
    for part in found.series.values():
        part.add(Series(ok=1, statuses={200: 1}, errors={"x": 1}, checks={"x": [1, 1]}))
    if found.sockets is not None:
        found.sockets.add(Sockets(opened=1, codes={1000: 1}, failures={"x": 1}))
    assert (one.to_wire(), two.to_wire()) == before


@given(JSON)
def test_what_is_no_row_is_a_value_error(value: object) -> None:
    for kind in (Row, Series):
        try:
            found = kind.from_wire(value)
        except ValueError:
            continue
        assert kind.from_wire(found.to_wire()) == found


@given(
    rows(),
    st.sampled_from([*ROW_COUNTS, *ROW_MAXIMA, *ROW_HISTOGRAMS, "series", "sockets", "second", "other"]),
    JSON,
)
def test_a_row_with_a_wrong_field_is_a_value_error_or_a_row(row: Row, name: str, value: object) -> None:
    try:
        found = Row.from_wire({**row.to_wire(), name: value})
    except ValueError:
        return
    assert Row.from_wire(found.to_wire()) == found


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        ({}, "second: not a whole number"),
        ({"second": True}, "second"),
        ({"second": 1, "tertia": 1}, "unknown: tertia"),
        ({"second": 1, "ok": -1}, "ok: not a count"),
        ({"second": 1, "ok": 1.0}, "ok: not a count"),
        ({"second": 1, "lag_ns": -1}, "lag_ns: not a count"),
        ({"second": 1, "lateness": 5}, "lateness: not a histogram"),
        ({"second": 1, "lateness": "é"}, "ASCII"),
        ({"second": 1, "lateness": "AA=="}, "histogram"),
        ({"second": 1, "series": []}, "series: not an object"),
        ({"second": 1, "sockets": None}, "not an object"),
        ({"second": 1, "sockets": {"opened": -1}}, "opened: not a count"),
        ({"second": 1, "sockets": {"openend": 1}}, "unknown: openend"),
        ({"second": 1, "sockets": {"codes": {"1e3": 1}}}, "codes: not a close code"),
        ({"second": 1, "sockets": {"codes": {"01000": 1}}}, "not a close code"),
        ({"second": 1, "sockets": {"failures": {"reset": True}}}, "failures: not a count"),
        ({"second": 1, "sockets": {"ping": 5}}, "ping: not a histogram"),
        ({"second": 1, "series": {"x": 5}}, "not an object"),
        ({"second": 1, "series": {5: {}}}, "not text"),
        ({"second": 1, "series": {"x": {"statuses": {"ok": 1}}}}, "not a status: 'ok'"),
        ({"second": 1, "series": {"x": {"statuses": {"0200": 1}}}}, "not a status"),
        ({"second": 1, "series": {"x": {"statuses": {200: 1}}}}, "not text"),
        ({"second": 1, "series": {"x": {"checks": {"a": [1]}}}}, "not \\[passed, failed\\]"),
        ({"second": 1, "series": {"x": {"checks": {"a": [1, "2"]}}}}, "checks: not a count"),
        ({"second": 1, "series": {"x": {"errors": {"a": None}}}}, "errors: not a count"),
        ([], "not an object"),
        (None, "not an object"),
    ],
)
def test_what_is_wrong_is_said(wire: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Row.from_wire(wire)
