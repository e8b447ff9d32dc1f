"""Sockets of rows: addition in any order, JSON and back, and rows without any as they have always been."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_strategies import JSON, rows, sockets

from loads_queue.model import row_check
from loads_queue.model.histogram import Histogram
from loads_queue.model.row_check import check, read
from loads_queue.model.sockets import SOCKET_HISTOGRAMS, SOCKET_NUMBERS, Sockets
from loads_queue.model.summary import Row, total


def added(some: list[Sockets]) -> Sockets:
    found = Sockets()
    for one in some:
        found.add(one)
    return found


@given(sockets())
def test_they_come_back_from_json(one: Sockets) -> None:
    assert Sockets.from_wire(json.loads(json.dumps(one.to_wire()))) == one


@given(st.lists(sockets(), max_size=4), st.data())
def test_adding_is_addition_in_any_order(some: list[Sockets], data: st.DataObject) -> None:
    found = added(some)
    assert added(data.draw(st.permutations(some))) == found
    for name in SOCKET_NUMBERS:
        assert getattr(found, name) == sum(getattr(one, name) for one in some)
    for name in SOCKET_HISTOGRAMS:
        assert getattr(found, name).count == sum(getattr(one, name).count for one in some)
        assert getattr(found, name).sum == sum(getattr(one, name).sum for one in some)
    for table in ("codes", "failures"):
        whole = getattr(found, table)
        assert set(whole) == {key for one in some for key in getattr(one, table)}
        assert all(whole[key] == sum(getattr(one, table).get(key, 0) for one in some) for key in whole)


@given(sockets(), sockets(), sockets())
def test_adding_is_associative(one: Sockets, two: Sockets, three: Sockets) -> None:
    assert added([added([one, two]), three]) == added([one, added([two, three])])


@given(sockets(), sockets())
def test_adding_leaves_what_was_added_alone(one: Sockets, two: Sockets) -> None:
    before = one.to_wire(), two.to_wire()
    found = added([one, two])
    found.ping.record(5)
    found.codes[1000] = found.failures["x"] = 7
    assert (one.to_wire(), two.to_wire()) == before


@given(JSON)
def test_what_is_none_is_a_value_error(value: object) -> None:
    try:
        found = Sockets.from_wire(value)  # type: ignore[arg-type]
    except ValueError:
        return
    assert Sockets.from_wire(found.to_wire()) == found


@given(st.lists(rows(), max_size=4))
def test_a_row_has_the_sockets_of_those_that_it_is_made_of(some: list[Row]) -> None:
    theirs = [row.sockets for row in some if row.sockets is not None]
    assert total(some).sockets == (added(theirs) if theirs else None)


@given(rows())
def test_a_row_without_sockets_is_written_as_it_always_was(row: Row) -> None:
    row.sockets = None
    assert "sockets" not in row.to_wire()
    assert Row.from_wire(row.to_wire()).sockets is None


def test_zeros_are_left_out_and_having_none_is_not_having_no_sockets() -> None:
    ping = Histogram()
    ping.record(1_000_000)
    assert Row(3, sockets=Sockets()).to_wire() == {"second": 3, "sockets": {}}
    some = Sockets(opened=2, closed=1, open=2, codes={1000: 1}, failures={"reset: x": 1}, ping=ping)
    assert some.to_wire() == {
        "opened": 2,
        "closed": 1,
        "open": 2,
        "ping": ping.to_text(),
        "codes": {"1000": 1},
        "failures": {"reset: x": 1},
    }


@given(rows())
def test_they_pass_the_scheduler_s_door_whole(row: Row) -> None:
    wire = json.loads(json.dumps(row.to_wire()))
    check(wire)
    assert read(wire) == row


def test_nonsense_does_not_pass_it() -> None:
    with pytest.raises(ValueError, match="opened: not a count"):
        check({"second": 1, "sockets": {"opened": "many"}})


@given(sockets())
def test_rows_with_sockets_need_no_decoding_to_be_let_in(some: Sockets) -> None:
    assert row_check._quick(json.loads(json.dumps(Row(3, sockets=some).to_wire())))


@pytest.mark.parametrize("name", SOCKET_HISTOGRAMS)
def test_times_that_make_no_sense_are_left_out_and_the_counts_stand(name: str) -> None:
    whole = Row(3, sockets=Sockets(opened=5, open=5))
    wire = whole.to_wire()
    wire["sockets"][name] = "AQ=="
    check(wire)
    assert read(wire) == whole
