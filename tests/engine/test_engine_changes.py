"""Laws of changed profiles, in virtual time: whenever an engine hears of which change, every second comes out even."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loads.workers.engines import arrivals, closed, counted, recorder
from loads.workers.engines.permit import Permit

from loads_queue.model import profile
from loads_queue.model.summary import Row

SECOND = 1_000_000_000
TENTH = SECOND // 10
BASE = 5_000 * SECOND + 123


class Clock:
    """Virtual time, and the alarms that ring in it."""

    def __init__(self) -> None:
        self.now = BASE
        self._heap: list[tuple[int, int, Any]] = []
        self._count = 0

    def at(self, due: int, callback: Callable[[], object]) -> Any:
        self._count += 1
        alarm = SimpleNamespace(live=True)
        alarm.cancel = lambda: setattr(alarm, "live", False)
        heapq.heappush(self._heap, (due, self._count, (alarm, callback)))
        return alarm

    def run_to(self, until: int) -> None:
        while self._heap and self._heap[0][0] <= until:
            due, _, (alarm, callback) = heapq.heappop(self._heap)
            self.now = max(self.now, due)
            if alarm.live:
                callback()
        self.now = until


def world(clock: Clock, delay_ns: int, over: Callable[[], None]) -> Any:
    """What a load model asks for; users and riders are left out by those who use it."""
    permit = Permit()
    permit.replace(1 << 62, 1 << 62, 1 << 62, 0, 0)
    order = SimpleNamespace(
        shard=1, shards=3, delay_ns=delay_ns, max_in_flight=10**9, max_lateness_ns=10**18, graceful_ramp_down_ns=0
    )
    return SimpleNamespace(
        base=BASE, order=order, permit=permit, pacer=clock, recorder=recorder.Recorder(BASE), load_over=over,
        ask_for_more=lambda: None, net=SimpleNamespace(gate=SimpleNamespace(attempts=0)),
        seats=SimpleNamespace(repeats=None, bare=False, lasting=False),
    )  # fmt: skip


def take(rows: dict[int, Row], found: Any, settled: int) -> None:
    for wire in found.take(settled):
        row = Row.from_wire(wire)
        rows[row.second] = row


STAGES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=3
)  # (from, to, tenths)
CHANGES = st.lists(
    st.tuples(st.integers(0, 80), st.sampled_from([(0, 1), (1, 3), (1, 1), (2, 1), (7, 2)])), max_size=3
).map(lambda found: [(at * TENTH, *factor) for at, factor in sorted(dict(found).items())])
HEARINGS = st.lists(st.tuples(st.integers(0, 900), CHANGES), max_size=3).map(
    lambda found: sorted(found, key=lambda each: each[0])
)  # (heard at, in hundredths of a second; what)
LAPSES = st.lists(st.tuples(st.integers(0, 800), st.integers(0, 200)), max_size=2).map(sorted)


def happenings(hearings: list, lapses: list) -> list[tuple[int, str, Any]]:
    """What is heard and when the permit ends and begins, by time."""
    found = [(BASE + at * SECOND // 100, "hear", changes) for at, changes in hearings]
    for at, length in lapses:
        found.append((BASE + at * SECOND // 100, "lapse", None))
        found.append((BASE + (at + length) * SECOND // 100, "permit", None))
    return sorted(found, key=lambda each: each[0])


@settings(max_examples=150, deadline=None)
@given(
    STAGES, HEARINGS, LAPSES, CHANGES, st.integers(0, 15), st.integers(0, 7), st.sampled_from([None, 40]),
    st.sampled_from(["even", "jittered"]), st.sampled_from([15, 0]),
)  # fmt: skip
def test_arrivals_come_out_even(
    stages: list, hearings: list, lapses: list, at_start: list, delay: int, first: int, iterations: int | None,
    kind: str, kept: int,
) -> None:  # fmt: skip
    clock, over, rows = Clock(), [], {}
    stages = [profile.RateStage(Fraction(a), Fraction(b), length * TENTH) for a, b, length in stages]
    if iterations is not None:
        stages.append(profile.RateStage(Fraction(20), Fraction(20), SECOND))
    load = profile.OpenLoad(tuple(stages), iterations, kind, 7, tuple(at_start))
    found = world(clock, delay * TENTH, lambda: over.append(clock.now))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrivals, "boottime_ns", lambda: clock.now)
        model = arrivals.Arrivals(found, load, 0, BASE)
        share = load.shard(1, 3)
        first = min(first, share.planned_by(0), share.planned)
        started: list[int] = []

        def start(number: int, due: int) -> None:
            model.next = number + 1
            started.append(number)
            found.recorder.end(found.recorder.start(due, due, clock.now), "ok", clock.now)

        model._start = start  # type: ignore[method-assign]
        model.begin()
        last = at_start
        for at, what, changes in happenings(hearings, lapses):
            clock.run_to(at)
            if over:
                break
            model.settle()
            if what == "hear":
                last = changes
                model.change(changes)
            else:
                found.permit.until = clock.now if what == "lapse" else 1 << 62
            take(rows, found.recorder, model.settled_before(clock.now) - kept)
        load = load.changed(last)
        clock.run_to(BASE + delay * TENTH + min(load.end_ns, 60 * SECOND) + 1)
        if not over:
            model.stop()
        take(rows, found.recorder, 0)
    share = load.shard(1, 3)
    zero = delay * TENTH
    for second in range(70):
        row = rows.get(second, Row())
        low, high = (share.planned_by(each * SECOND - zero) for each in (second, second + 1))
        planned = min(high, model.next) - min(low, model.next)
        assert planned + row.surplus == row.started + row.missed, (second, row)
        assert 0 <= row.surplus <= row.started
    assert sum(row.started for row in rows.values()) == len(started)
    if over and load.end_ns < 60 * SECOND and iterations is None:
        assert model.next == share.planned


@settings(max_examples=150, deadline=None)
@given(STAGES, HEARINGS, LAPSES, CHANGES, st.integers(0, 15))
def test_user_time_comes_out_even(stages: list, hearings: list, lapses: list, at_start: list, delay: int) -> None:
    clock, rows = Clock(), {}
    load = profile.ClosedLoad(
        tuple(profile.UserStage(Fraction(a), Fraction(b), length * TENTH) for a, b, length in stages),
        None, tuple(at_start),
    )  # fmt: skip
    found = world(clock, delay * TENTH, lambda: None)
    held = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closed, "boottime_ns", lambda: clock.now)
        patch.setattr(closed.ClosedUsers, "_add_users", lambda self: None)
        model = closed.ClosedUsers(found, load, 0, BASE)
        model.begin()
        lived: list[tuple[int, profile.ClosedShard, bool]] = [(0, load.shard(1, 3), True)]
        for at, what, changes in happenings(hearings, lapses):
            clock.run_to(at)
            model.settle()
            if what == "hear":
                load = load.changed(changes)
                model.change(changes)
            else:
                found.permit.until = clock.now if what == "lapse" else 1 << 62
            lived.append((clock.now - BASE - delay * TENTH, load.shard(1, 3), clock.now < found.permit.until))
            take(rows, found.recorder, model.settled_before(clock.now) - 1)
        end = max(clock.now, BASE + delay * TENTH + load.end_ns)
        clock.run_to(end)
        model.settle()
        model.stop()
        take(rows, found.recorder, 0)
    share, zero = load.shard(1, 3), delay * TENTH
    for second in range(20):
        row = rows.get(second, Row())
        planned = share.user_ns(second * SECOND - zero, (second + 1) * SECOND - zero)
        assert row.held_ns + row.missed_user_ns == planned, (second, row)
        assert min(row.held_ns, row.missed_user_ns, row.surplus_user_ns) >= 0
    for (low, lived_by, permitted), (high, _, _) in zip(lived, [*lived[1:], (1 << 60, None, None)], strict=True):
        held += lived_by.user_ns(max(0, low), max(0, high)) if permitted else 0
    assert sum(row.held_ns + row.surplus_user_ns for row in rows.values()) == held


def test_rows_that_were_packed_are_amended_and_those_forgotten_stay() -> None:
    found = recorder.Recorder(0)
    for second in (0, 100, 200):
        found.end(found.start(second * SECOND, second * SECOND, second * SECOND), "ok", second * SECOND)
    assert [row["second"] for row in found.take(201)] == [0, 100, 200]
    found.replan(100, 1)
    found.replan(200, -3)
    found.replan(0, -1)
    rows = {row["second"]: Row.from_wire(row) for row in found.take(201)}
    assert (rows[100].started, rows[100].surplus, rows[100].missed) == (1, 1, 0)
    assert (rows[200].started, rows[200].surplus, rows[200].missed) == (1, 0, 3)
    assert set(rows) == {100, 200, 201} and rows[201].missed == 1  # Second 0 is too long ago to be known.


def test_what_an_earlier_change_made_surplus_a_later_one_takes_back() -> None:
    found = recorder.Recorder(0)
    for _ in range(10):
        found.end(found.start(0, 0, 0), "ok", 0)
    found.drop("missed", 0, 4)
    found.drop("dropped_late", 0, 2)
    found.replan(0, 9)
    row = found.live(0).row
    assert (row.started, row.missed, row.surplus, row.dropped_late) == (10, 0, 5, 2)
    found.replan(0, -7)
    assert (row.missed, row.surplus) == (2, 0)
    found.replan(0, 13)
    assert (row.missed, row.surplus, row.dropped_late) == (0, 10, 1)


def test_a_pause_of_counted_turns_is_known_by_its_times() -> None:
    clock = Clock()
    load = profile.IterationsLoad(((3, 2),))
    changes = ((SECOND, 0, 1), (2 * SECOND, 3, 1), (5 * SECOND, 0, 1))
    model = counted.CountedUsers(world(clock, SECOND, lambda: None), load, 0, BASE, (), changes)
    zero = BASE + SECOND
    waits = {tenth: model._paused_until(zero + tenth * TENTH) for tenth in (0, 9, 10, 19, 20, 49, 50, 900)}
    forever = zero + profile.NEVER
    assert waits == {
        0: None, 9: None, 10: zero + 2 * SECOND, 19: zero + 2 * SECOND, 20: None, 49: None, 50: forever, 900: forever,
    }  # fmt: skip
