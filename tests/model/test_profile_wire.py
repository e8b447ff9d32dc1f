"""Loads as JSON: what goes out comes back, and nothing else is taken."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_strategies import closed_loads, iterations_loads, open_loads

from loads_queue.model.profile import Load, OpenLoad, RateStage, from_wire, to_wire

LOADS = st.one_of(open_loads(), closed_loads(), iterations_loads)
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["1/0", "1/3"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=8,
)
FIELDS = ["stages", "iterations", "arrivals", "seed", "changes", "pace_ns", "cycles", "shared", "other"]


@given(LOADS)
def test_a_load_comes_back_from_json(load: Load) -> None:
    wire = to_wire(load)
    back = from_wire(json.loads(json.dumps(wire)))
    assert back == load
    assert (back.end_ns, to_wire(back)) == (load.end_ns, wire)


@given(LOADS, st.sampled_from(FIELDS), JSON)
def test_a_load_with_a_wrong_field_is_a_value_error_or_a_load(load: Load, field: str, value: object) -> None:
    wire = {**to_wire(load), field: value}
    try:
        found = from_wire(wire)
    except ValueError:
        return
    assert from_wire(to_wire(found)) == found


@given(LOADS, st.data())
def test_a_load_with_a_wrong_number_in_it_is_a_value_error_or_a_load(load: Load, data: st.DataObject) -> None:
    wire = json.loads(json.dumps(to_wire(load)))
    rows = wire.get("stages") or wire["cycles"]
    row = data.draw(st.sampled_from(rows))
    row[data.draw(st.integers(0, len(row) - 1))] = data.draw(JSON)
    try:
        found = from_wire(wire)
    except ValueError:
        return
    assert from_wire(to_wire(found)) == found


@given(JSON)
def test_what_is_no_load_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError):
        from_wire(value)


def test_what_stands_at_its_default_is_left_out() -> None:
    load = OpenLoad((RateStage(Fraction(5), Fraction(1, 3), 7, "steady"),))
    assert to_wire(load) == {"kind": "open", "stages": [[5, "1/3", 7, "steady"]]}
    assert to_wire(OpenLoad(load.stages, 3, "jittered", 9, ((5, 1, 2),))) == {
        "kind": "open",
        "stages": [[5, "1/3", 7, "steady"]],
        "iterations": 3,
        "arrivals": "jittered",
        "seed": 9,
        "changes": [[5, 1, 2]],
    }


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        ({"kind": "open", "stages": [[1, 1, 1, None]], "pace": 5}, "unknown: pace"),
        ({"kind": "open"}, "stages: not a list"),
        ({"kind": "open", "stages": [[1, 1, 1]]}, "lists of 4"),
        ({"kind": "open", "stages": [["1.5", 1, 1, None]]}, "not a fraction: '1.5'"),
        ({"kind": "open", "stages": [["-1", 1, 1, None]]}, "not a fraction"),
        ({"kind": "open", "stages": [["1/0", 1, 1, None]]}, "not a fraction"),
        ({"kind": "open", "stages": [[1.0, 1, 1, None]]}, "not a fraction"),
        ({"kind": "open", "stages": [["9" * 5000, 1, 1, None]]}, "not a fraction"),
        ({"kind": "closed", "stages": [[1, 1, 1, None]], "seed": 1}, "unknown: seed"),
        ({"kind": "iterations", "cycles": [[1, 1]], "shared": 1}, "shared: true or false"),
        ({"kind": "iterations", "cycles": [[1, 1]], "shared": True, "changes": []}, "unknown: changes"),
        ({"kind": "half-open"}, "kind is open, closed or iterations, not 'half-open'"),
        ({}, "not None"),
        ([], "not an object"),
    ],
)
def test_what_is_wrong_is_said(wire: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_wire(wire)
