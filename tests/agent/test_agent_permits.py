"""The permit: what it allows, when it is renewed, and that it never runs ahead of the Report that states it."""

from __future__ import annotations

import pytest
from loads.workers.agent_events import SendToEngine
from loads.workers.permits import Bounds, Permit, Progress

from loads_queue.messages import Totals
from loads_queue.model import profile
from tests.agent.world import MS, OPEN, SECOND, USERS, World, of

NONE = Permit()


def test_the_start_is_told_once_by_the_hosts_own_clock() -> None:
    world = World(ahead=-3 * SECOND)
    world.running(start_after=700 * MS)
    at = world.now + 700 * MS
    assert world.lines(kind="start") == [{"type": "start", "at": at, "first": 0, "turns": None, "changes": []}]
    world.control(world.order(action="run", start_at=world.start_at(900 * MS)))
    assert len(world.lines(kind="start")) == 1


def test_a_start_heard_before_the_engine_is_ready_is_told_when_it_is() -> None:
    world = World()
    world.offer()
    world.run(50 * MS)
    world.control(world.order(action="run", start_at=world.start_at(SECOND), first=17))
    at = world.now + SECOND
    assert not world.lines(kind="start")
    world.run(300 * MS)
    world.line(type="ready")
    assert world.lines(kind="start") == [{"type": "start", "at": at, "first": 17, "turns": None, "changes": []}]


def test_no_permit_before_its_report_is_published() -> None:
    world = World(publishes=False)
    world.offer()
    world.publish_all()
    world.run(50 * MS)
    world.control(world.order())
    world.line(type="ready")
    world.run(50 * MS)
    world.publish_all()
    world.control(world.order(action="run", start_at=world.start_at(SECOND)))
    world.run(SECOND)
    stated = world.last()
    assert stated.permit_until_ns is not None and not world.lines(kind="permit")
    world.publish_all()
    permit = world.lines(kind="permit")[-1]
    start = world.lines(kind="start")[0]["at"]
    assert permit["until"] - start == stated.permit_until_ns
    assert (permit["iterations"], permit["requests"]) == (stated.bound_iterations, stated.bound_requests)


def test_the_permit_lasts_a_lease_less_a_second_from_the_snapshot() -> None:
    world = World()
    world.running()
    world.run(200 * MS)
    taken = world.now
    world.run(300 * MS)
    world.snapshot(1, at=taken)
    world.run(SECOND)
    assert world.lines(kind="permit")[-1]["until"] == taken + 9 * SECOND


def test_the_agent_can_not_vouch_for_an_engine_that_hangs() -> None:
    world = World()
    world.running()
    world.snapshot(1)
    until = world.now + 9 * SECOND
    world.run(5 * SECOND)
    assert world.lines(kind="permit")[-1]["until"] == until
    snapshots = [claim.snapshot for report in world.reports[-4:] for claim in report.claims]
    assert len(set(snapshots)) == 1


def test_the_agent_renews_until_the_engine_starts() -> None:
    world = World()
    world.offer()
    world.run(50 * MS)
    world.control(world.order())
    world.run(4 * SECOND)
    snapshots = [claim.snapshot for report in world.reports[-4:] for claim in report.claims]
    assert snapshots == sorted(set(snapshots))
    assert world.last().permit_until_ns is None


def test_snapshots_go_on_counting_from_the_agents_own() -> None:
    world = World()
    world.running()
    before = world.last().snapshot
    world.snapshot(1)
    world.run(SECOND)
    assert world.last().snapshot > before


def test_a_snapshot_from_the_future_counts_from_now() -> None:
    world = World()
    world.running()
    world.snapshot(1, at=world.now + 3600 * SECOND)
    taken = world.now
    world.run(SECOND)
    assert world.lines(kind="permit")[-1]["until"] == taken + 9 * SECOND


def test_hunger_brings_a_report_forward() -> None:
    world = World()
    world.running(load=USERS)
    world.run(SECOND)
    world.snapshot(1, started=15, attempted=30)
    world.run(100 * MS)
    before, bound = len(world.reports), world.lines(kind="permit")[-1]["iterations"]
    world.snapshot(2, started=30, attempted=60, hungry=True)
    world.run(21 * MS)
    assert len(world.reports) == before + 1
    assert world.lines(kind="permit")[-1]["iterations"] > bound


def test_permits_published_out_of_order_never_shrink() -> None:
    world = World(publishes=False)
    world.offer()
    world.publish_all()
    world.run(50 * MS)
    world.control(world.order())
    world.line(type="ready")
    world.control(world.order(action="run", start_at=world.start_at(0)))
    world.publish_all()
    for number in range(1, 4):
        world.snapshot(number, next=100 * number, started=100 * number)
        world.run(SECOND)
    waiting = [report.sequence for report in world.reports if report.sequence not in world.published]
    assert len(waiting) == 3
    for sequence in reversed(waiting):
        world.publish(sequence)
    untils = [line["until"] for line in world.lines(kind="permit")]
    assert untils == sorted(untils)


def test_a_stopping_engine_is_renewed_for_what_is_in_flight() -> None:
    world = World()
    world.running()
    world.snapshot(1)
    world.control(world.order(action="stop", stop_grace_ns=20 * SECOND))
    world.run(SECOND)
    world.snapshot(2)
    taken = world.now
    world.run(SECOND)
    assert world.lines(kind="permit")[-1]["until"] == taken + 9 * SECOND


def test_changes_are_told_to_the_engine_and_to_the_bound() -> None:
    world = World()
    world.running(start_after=0)
    world.snapshot(1)
    world.run(SECOND)
    bound = world.lines(kind="permit")[-1]["iterations"]
    changes = ((2 * SECOND, 3, 1),)
    world.control(world.order(action="run", start_at=world.start_at(0), changes=changes))
    assert world.lines(kind="adjust") == [{"type": "adjust", "changes": [[2 * SECOND, 3, 1]]}]
    world.control(world.order(action="run", start_at=world.start_at(0), changes=changes))
    assert len(world.lines(kind="adjust")) == 1
    world.snapshot(2)
    world.run(SECOND)
    assert world.lines(kind="permit")[-1]["iterations"] > bound + 300


def test_nothing_is_sent_to_an_engine_that_has_ended() -> None:
    world = World()
    world.running()
    world.line(type="end", cause="finished", detail="", at_ns=0)
    told = len(of(SendToEngine, world.commands))
    world.run(2 * SECOND)
    world.control(world.order(action="stop"))
    assert len(of(SendToEngine, world.commands)) == told


# The bounds themselves


def test_an_open_load_may_go_eight_seconds_ahead_of_its_profile() -> None:
    bounds = Bounds(OPEN, 0, 2, 10 * SECOND)
    assert bounds.after(0, 0, Totals(), Progress(), 1, NONE)[0] == 0
    assert bounds.after(10 * SECOND, 0, Totals(), Progress(), 1, NONE)[0] == 400
    assert bounds.after(10_000 * SECOND, 0, Totals(), Progress(), 1, NONE)[0] == 3000


def test_users_get_two_turns_each_then_what_they_show_they_can_do() -> None:
    bounds = Bounds(USERS, 0, 1, 0)
    progress = Progress()
    assert bounds.after(0, 0, Totals(), progress, 1, NONE) == (20, 100)
    progress.add(0, Totals(), False)
    fast = Totals(started=500, attempted=4000)
    progress.add(SECOND, fast, False)
    assert bounds.after(SECOND, 0, fast, progress, 1, NONE) == (4500, 36000)


def test_hunger_doubles_and_calm_halves() -> None:
    bounds = Bounds(USERS, 0, 1, 0)
    progress = Progress()
    found = []
    for number, hungry in enumerate([True, True, True, False, False, False]):
        progress.add(number * 1000, Totals(), hungry)
        found.append(bounds.after(0, 0, Totals(), progress, 1, NONE)[0])
    assert found == [40, 80, 160, 80, 40, 20]


def test_bounds_never_sink() -> None:
    bounds = Bounds(USERS, 0, 1, 0)
    assert bounds.after(0, 0, Totals(), Progress(), 1, Permit(0, 77, 5000)) == (77, 5000)


@pytest.mark.parametrize("shared", [False, True])
def test_counted_turns_are_never_bound_beyond_the_plan(shared: bool) -> None:
    load = profile.to_wire(profile.IterationsLoad(((4, 3),), shared))
    bounds = Bounds(load, 1, 2, 0)
    progress = Progress(doublings=10, hungry=True)
    assert bounds.after(0, 0, Totals(), progress, 1, NONE)[0] == (1 if shared else 3)


def test_a_hungry_user_of_counted_turns_goes_on_from_what_it_was_given() -> None:
    bounds = Bounds(profile.to_wire(profile.IterationsLoad(((10, 1000),))), 0, 1, 0)
    progress = Progress()
    assert bounds.after(0, 0, Totals(), progress, 1, NONE)[0] == 2
    progress.add(0, Totals(started=12), True)
    assert bounds.after(0, 0, Totals(started=12), progress, 1, Permit(0, 2, 0))[0] == 6


def test_a_successor_of_counted_turns_counts_from_where_it_owns() -> None:
    bounds = Bounds(profile.to_wire(profile.IterationsLoad(((10, 1000),))), 0, 1, 0)
    assert bounds.after(0, 500, Totals(), Progress(), 1, NONE)[0] == 502


def test_requests_cover_what_may_begin_in_the_open_model() -> None:
    bounds = Bounds(OPEN, 0, 1, 0)
    assert bounds.after(0, 0, Totals(in_flight=100), Progress(), 3, NONE)[1] == 2 * (800 + 100) * 3
