"""Taking over and handing back: what the start tells, when a late agent must hold back, and how a worker drains."""

from __future__ import annotations

from typing import Any

import pytest
from loads.workers.agent_events import ControlReceived, Exit, KillEngine, Log, Release, Terminate
from loads.workers.permits import AHEAD_NS

from loads_queue.model import profile
from tests.agent.world import MS, SECOND, World, of

TURNS = profile.to_wire(profile.IterationsLoad(((3, 50),)))


def ready(world: World, **changes: Any) -> None:
    """A granted claim whose engine waits for its start."""
    world.offer(**changes)
    world.run(50 * MS)
    world.control(world.order())
    world.line(type="ready")
    world.run(50 * MS)


# The start of a takeover


def test_the_start_tells_of_turns_and_changes() -> None:
    world = World()
    ready(world, load=TURNS)
    changes = ((5 * SECOND, 0, 1), (9 * SECOND, 3, 2))
    order = world.order(action="run", start_at=world.start_at(-SECOND), first=9, turns=(7, 9, 8), changes=changes)
    world.control(order)
    (start,) = world.lines(kind="start")
    assert (start["at"], start["first"], start["turns"]) == (world.now - SECOND, 9, [7, 9, 8])
    assert start["changes"] == [[5 * SECOND, 0, 1], [9 * SECOND, 3, 2]]
    assert not world.lines(kind="adjust")  # It is in the start.


def test_bounds_count_from_the_turns_that_others_have_begun() -> None:
    world = World()
    ready(world, load=TURNS)
    world.control(world.order(action="run", start_at=world.start_at(0), first=30, turns=(7, 19, 8)))
    world.run(SECOND)
    assert 19 < world.lines(kind="permit")[-1]["iterations"] <= 23


def test_changes_before_the_start_are_in_the_bounds_of_the_first_permit() -> None:
    world = World()
    ready(world)
    changes = ((0, 1, 100),)
    world.control(world.order(action="run", start_at=world.start_at(0), changes=changes))
    world.run(100 * MS)
    assert world.lines(kind="permit")[-1]["iterations"] == AHEAD_NS // SECOND  # One a second.


def test_a_later_change_goes_to_the_running_engine() -> None:
    world = World()
    world.running()
    changes = ((5 * SECOND, 1, 2),)
    world.control(world.order(action="run", start_at=world.start_at(SECOND), changes=changes))
    world.control(world.order(action="run", start_at=world.start_at(SECOND), changes=changes))
    assert world.lines(kind="adjust") == [{"type": "adjust", "changes": [[5 * SECOND, 1, 2]]}]


def test_the_turns_of_a_last_snapshot_are_reported() -> None:
    world = World()
    world.running(load=TURNS)
    totals = {"started": 5, "remaining": 145, "turns": [2, 2, 1]}
    world.line(type="snapshot", number=1, at=world.now, rows=[], totals=totals)
    world.run(SECOND)
    assert world.last().totals.turns == (2, 2, 1)


@pytest.mark.parametrize("turns", [[1, -1], "12", [True], [None], 7])
def test_turns_that_are_none_end_the_engine(turns: object) -> None:
    world = World()
    world.running(load=TURNS)
    commands = world.line(type="snapshot", number=1, at=world.now, rows=[], totals={"turns": turns})
    assert of(KillEngine, commands) == [KillEngine("claim1", "KILL")]


# A lease that may have ended


def held_up(world: World, seconds: float) -> None:
    """The whole agent stands still, while its engine goes on saying how it is."""
    world.now += int(seconds * SECOND)
    world.snapshot(2)
    world.run(50 * MS)


def begun() -> World:
    world = World()
    world.running()
    world.run(SECOND)
    world.snapshot(1)
    world.run(SECOND)
    world.control(applied=world.reports[-1].sequence)
    world.run(SECOND)
    assert world.reports[-1].hello is None
    return world


def granted(world: World, **changes: Any) -> None:
    world.control(world.order(action="run", start_at=world.start_at(0)), **changes)


def test_a_short_pause_of_the_agent_changes_nothing() -> None:
    world = begun()
    held_up(world, 6)
    assert world.lines(kind="permit")[-1]["until"] == world.now - 50 * MS + 9 * SECOND


def test_after_a_pause_longer_than_a_lease_the_engine_waits_for_the_schedulers_word() -> None:
    world = begun()
    before = world.lines(kind="permit")[-1]
    held_up(world, 12)
    assert world.lines(kind="permit")[-1] == before
    assert world.reports[-1].hello is not None  # Which the scheduler answers at once.
    granted(world)
    permit = world.lines(kind="permit")[-1]
    assert permit["until"] == world.now - 50 * MS + 9 * SECOND
    assert any("waiting for the scheduler" in line.text for line in of(Log, world.commands))


def test_a_control_from_before_the_pause_is_no_such_word() -> None:
    world = begun()
    old = world.build(world.order(action="run", start_at=world.start_at(0)))
    before = world.lines(kind="permit")[-1]
    held_up(world, 12)
    world.do(ControlReceived(old))
    world.run(2 * SECOND)
    assert world.lines(kind="permit")[-1] == before


def test_a_claim_that_was_taken_over_meanwhile_never_gets_another_permit() -> None:
    world = begun()
    before = world.lines(kind="permit")[-1]
    held_up(world, 12)
    world.control(world.order(action="stop", reason="another attempt holds the shard", start_at=world.start_at(0)))
    world.snapshot(3)
    world.run(SECOND)
    assert [line["type"] for line in world.lines()[-1:]] == ["stop"]
    assert world.lines(kind="permit")[-1]["iterations"] >= before["iterations"]
    assert not [line for line in world.lines()[world.lines().index(before) + 1 :] if line["type"] == "permit"]


def test_a_broker_that_was_away_for_a_lease_is_the_same() -> None:
    world = begun()
    world.publishes = False
    before = world.lines(kind="permit")[-1]
    for number in range(2, 14):
        world.snapshot(number)
        world.run(SECOND)
    world.publishes = True
    world.publish_all()
    assert world.lines(kind="permit")[-1] == before
    world.run(SECOND)
    granted(world)
    assert world.lines(kind="permit")[-1]["until"] > world.now


def test_the_first_permit_waits_too_where_the_agent_was_held_up_before_the_start() -> None:
    world = World()
    ready(world)
    late = world.build(world.order(action="run", start_at=world.start_at(0)))
    world.now += 15 * SECOND
    world.do(ControlReceived(late))
    world.run(SECOND)
    assert world.lines(kind="start") and not world.lines(kind="permit")
    world.snapshot(1)
    world.run(SECOND)
    granted(world)
    assert world.lines(kind="permit")


def test_the_first_permit_goes_by_what_the_scheduler_has_seen() -> None:
    """Being told to start renews nothing: the last Report before it did."""
    world = World()
    ready(world)
    renewed = world.now - 50 * MS
    world.now += 900 * MS
    granted(world)
    world.run(50 * MS)
    until = world.lines(kind="permit")[0]["until"]
    assert renewed + 9 * SECOND <= until <= renewed + 9 * SECOND + 100 * MS


# Handing back


def test_what_is_handed_back_is_reported_as_soon_as_the_engine_has_ended() -> None:
    world = World()
    world.running(graceful_stop_ns=30 * SECOND)
    world.run(SECOND)
    world.do(Terminate())
    began = world.now
    assert world.lines(kind="stop")[-1]["grace_ns"] == SECOND // 2
    world.run(120 * MS)
    world.snapshot(1, next=77, started=77)
    world.line(type="end", cause="stopped", detail="", at_ns=5 * SECOND)
    world.run(25 * MS)
    found = world.last()
    assert found.end is not None and found.end.cause == "lapsed" and found.end.at_ns == 5 * SECOND
    assert found.totals.next == 77 and world.now - began < 200 * MS


def test_a_shorter_graceful_stop_of_the_plans_holds() -> None:
    world = World()
    world.running(graceful_stop_ns=100 * MS)
    world.do(Terminate())
    assert world.lines(kind="stop")[-1]["grace_ns"] == 100 * MS


def test_the_worst_engine_is_handed_back_within_its_bound() -> None:
    """One that does not end itself: TERM a second after its grace, KILL a second later."""
    world = World()
    world.running()
    world.do(Terminate())
    world.run(2600 * MS)
    assert [kill.signal for kill in of(KillEngine, world.commands)] == ["TERM", "KILL"]
    world.exit(status=-9)
    world.run(25 * MS)
    assert world.last().end is not None and world.last().end.cause == "crashed"


# Draining when idle


def test_an_idle_agent_drains_after_its_time() -> None:
    world = World(drain_after_ns=60 * SECOND)
    world.run(59 * SECOND)
    assert not world.reports[-1].leaving
    world.run(SECOND)
    assert world.reports[-1].leaving and of(Exit, world.commands) == [Exit(0)]


def test_work_puts_the_draining_off() -> None:
    world = World(drain_after_ns=10 * SECOND)
    world.run(9 * SECOND)
    world.running(start_after=0)
    for number in range(1, 31):
        world.snapshot(number)
        world.run(SECOND)
        world.control(world.order(action="run", start_at=world.start_at(0)), applied=world.reports[-1].sequence)
    world.line(type="end", cause="finished", detail="", at_ns=SECOND)
    world.exit()
    world.run(SECOND)
    world.control(applied=world.reports[-1].sequence)
    world.run(9 * SECOND)
    assert not of(Exit, world.commands)
    world.run(SECOND)
    assert of(Exit, world.commands) == [Exit(0)]


def test_an_offer_that_comes_while_draining_is_given_back() -> None:
    world = World(drain_after_ns=SECOND, publishes=False)
    world.publish_all()
    world.run(SECOND)
    assert of(Release, world.offer()) == [Release("delivery of offer")]


def test_the_hosts_own_sleep_is_not_idleness() -> None:
    world = World(drain_after_ns=60 * SECOND)
    world.now += 3600 * SECOND
    world.run(30 * SECOND)
    assert not of(Exit, world.commands)
    world.run(40 * SECOND)
    assert of(Exit, world.commands)


def test_without_the_setting_it_stays() -> None:
    world = World()
    world.run(3600 * SECOND)
    assert not of(Exit, world.commands)
