"""A flat program does what the plan's tree of actions says: held against a reader of the tree, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from engine_harness import pause, request, scenario
from hypothesis import given, settings
from hypothesis import strategies as st
from loads.workers.engines.drivers import choose
from loads.workers.engines.exchange import Exchange, Rest
from loads.workers.engines.program import END, Program
from loads.workers.engines.scenario_run import Scenario, Walk
from loads.workers.engines.swift import swift
from loads.workers.engines.variables import Fixed, Visit

from loads_queue.model.scenario import Action, HttpScenario, OneOf, Pause, Repeat, Request

BASE = "http://shop.test"
WORDS = ("/a", "/b", "/c")
Event = tuple[str, object]

requests = st.builds(
    lambda url, ends: request(url, on_error="end_iteration" if ends else "continue"),
    st.sampled_from(WORDS), st.booleans(),
)  # fmt: skip
pauses = st.builds(
    lambda low, more: {"type": "pause", "low_ns": low, "high_ns": low + more}, st.integers(0, 9), st.integers(0, 5)
)


def inner(actions: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(actions, max_size=3)
    ways = st.lists(st.builds(lambda weight, do: {"weight": weight, "do": do}, st.integers(1, 3), some), min_size=1)
    return st.one_of(
        st.builds(lambda branches: {"type": "one_of", "branches": branches[:3]}, ways),
        st.builds(lambda times, do: {"type": "repeat", "times": times, "do": do}, st.integers(0, 3), some),
    )


actions = st.lists(st.recursive(st.one_of(requests, pauses), inner, max_leaves=8), max_size=4)


class EndIteration(Exception):
    """A request with ``on_error: end_iteration`` failed."""


class Tree:
    """Reads the tree as docs/plan-file.md says it is meant."""

    def __init__(self, visit: Visit, fails: Iterator[bool]) -> None:
        self.visit = visit
        self.fails = fails
        self.events: list[Event] = []
        self.ok = True

    def run(self, spec: HttpScenario) -> None:
        try:
            for action in (*(spec.before if self.visit.fresh else ()), *spec.do):
                self.do(action)
        except EndIteration:
            pass

    def do(self, action: Action) -> None:
        if isinstance(action, Request):
            self.events.append(("send", action.name))
            if next(self.fails):
                self.ok = False
                if action.on_error == "end_iteration":
                    raise EndIteration
        elif isinstance(action, Pause):
            spread = action.high_ns - action.low_ns
            self.events.append(("rest", action.low_ns + (self.visit.draw(spread + 1) if spread else 0)))
        elif isinstance(action, OneOf):
            drawn = self.visit.draw(sum(way.weight for way in action.branches))
            for way in action.branches:
                if drawn < way.weight:
                    for each in way.do:
                        self.do(each)
                    return
                drawn -= way.weight
        elif isinstance(action, Repeat):
            for _ in range(action.times):
                for each in action.do:
                    self.do(each)


def fails(pattern: list[bool]) -> Iterator[bool]:
    while True:
        yield from pattern


def walked(spec: HttpScenario, visit: Visit, pattern: list[bool]) -> tuple[list[Event], bool]:
    walk = Walk(Scenario(spec, lambda: 0), lambda x: None)
    walk.begin(visit, None, {})
    bad, events = fails(pattern), []
    while (effect := walk.step()) is not None:
        if isinstance(effect, Rest):
            events.append(("rest", effect.duration_ns))
        else:
            assert isinstance(effect, Exchange)
            events.append(("send", effect.name))
            effect.status = 500 if next(bad) else 200
    assert walk.step() is None
    return events, walk.ok


@settings(max_examples=300, deadline=None)
@given(actions, actions, st.booleans(), st.integers(0, 99), st.lists(st.booleans(), min_size=1, max_size=5))
def test_it_does_what_the_tree_says(before: list, do: list, fresh: bool, number: int, pattern: list[bool]) -> None:
    spec = HttpScenario.from_wire({**scenario(BASE), "before": before, "do": do})
    tree = Tree(Visit(Fixed(seed=5), 1, number, {}, {}, fresh), fails(pattern))
    tree.run(spec)
    events, ok = walked(spec, Visit(Fixed(seed=5), 1, number, {}, {}, fresh), pattern)
    assert (events, ok) == (tree.events, tree.ok)


def program(*actions: dict[str, Any], **more: Any) -> Program:
    return Program(HttpScenario.from_wire(scenario(BASE, *actions, **more)))


def test_there_is_one_end_and_a_repetition_of_nothing_is_nothing() -> None:
    found = program({"type": "repeat", "times": 10**9, "do": [{"type": "repeat", "times": 5, "do": []}]}, request("/"))
    assert [op.kind for op in found.ops][-1] == END
    assert len(found.ops) == 2 and found.counters == 0


@pytest.mark.parametrize(
    ("action", "simple", "bare"),
    [
        (request("/a"), True, True),
        (request("/a", check={"status": [200]}), True, True),
        (request("/a", check={"body": "x"}), False, True),
        (request("/a", check={"max_time_ns": 5}), False, True),
        (request("/${user.number}"), False, False),
        (request("/a", headers=[["X", "${iteration.id}"]]), False, False),
        (request("/a", extract=[{"var": "v", "kind": "header", "expr": "ETag"}]), False, False),
    ],
)
def test_what_is_simple_and_what_looks_at_no_visit(action: dict[str, Any], simple: bool, bare: bool) -> None:
    found = program(action)
    assert (found.sends[0].simple, found.bare) == (simple, bare)


def test_what_draws_a_number_looks_at_its_visit() -> None:
    assert program(request("/"), pause(1)).bare
    assert not program({"type": "pause", "low_ns": 1, "high_ns": 2}).bare
    assert not program({"type": "one_of", "branches": [{"weight": 1, "do": []}]}).bare
    assert not program(request("/"), before=[request("/login")]).bare


def test_the_short_way_is_for_simple_requests_that_keep_their_connection_and_have_a_body() -> None:
    found = program(
        request("/"), request("/", method="HEAD"), request("/", headers=[["Connection", "close"]]), request("/${row.a}")
    )
    assert [swift(op) is not None for op in found.ops] == [True, False, False, False, False]
    passing = swift(program(request("/", check={"status": [204, [300, 304]]})).ops[0])
    assert passing is not None and passing.accepted == {s: [("status", True)] for s in (204, 300, 301, 302, 303, 304)}


def test_a_path_is_chosen_by_name() -> None:
    for path in ("callbacks", "greenlets"):
        assert choose(program(request("/")), path).__name__ == path
    with pytest.raises(ValueError, match="LOADS_ENGINE_PATH is one of"):
        choose(program(request("/")), "threads")
