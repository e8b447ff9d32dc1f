"""How things end: stops, crashes, hangs, silence, and the agent itself."""

from __future__ import annotations

from typing import Any

import pytest
from loads.workers.agent_events import Exit, KillEngine, Publish, SetPrefetch, Terminate, Tick

from loads_queue.messages import End
from tests.agent.world import MS, SECOND, World, of


def end_of(world: World) -> End:
    end = world.last().end
    assert end is not None
    return end


def lively(world: World, seconds: int, number: int = 1) -> int:
    """Let time pass with an engine that snapshots every second."""
    for _ in range(seconds):
        world.snapshot(number)
        number += 1
        world.run(SECOND)
    return number


@pytest.mark.parametrize("cause", ["finished", "stopped", "exhausted", "max_time"])
def test_an_orderly_end_is_reported_with_its_time(cause: str) -> None:
    world = World(slots=1)
    world.running()
    world.line(type="end", cause=cause, detail="said", at_ns=7 * SECOND)
    assert world.state.free == 0
    assert world.exit()[0] == SetPrefetch(1)
    world.run(50 * MS)
    assert end_of(world) == End(cause, "said", "", 7 * SECOND)


def test_a_crash_is_reported_with_status_and_output() -> None:
    world = World()
    world.running(start_after=0)
    world.run(2 * SECOND)
    world.exit(status=3, output="Traceback: boom")
    world.run(50 * MS)
    end = end_of(world)
    assert (end.cause, end.output) == ("crashed", "Traceback: boom")
    assert "exit status 3" in end.detail and end.at_ns is not None and end.at_ns >= 2 * SECOND


def test_a_signal_is_named() -> None:
    world = World()
    world.running()
    world.exit(status=-11)
    world.run(50 * MS)
    assert "signal 11 (SEGV)" in end_of(world).detail


def test_a_failure_that_the_engine_explains_keeps_its_output() -> None:
    world = World()
    world.offer()
    world.run(50 * MS)
    world.control(world.order())
    world.line(type="end", cause="failed", detail="no such CA file")
    world.run(100 * MS)
    assert world.last().end is None
    world.exit(output="loading ca.pem")
    world.run(50 * MS)
    assert end_of(world) == End("failed", "no such CA file", "loading ca.pem", None)


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"type": "song"},
        {"type": "snapshot", "number": 1},
        {"type": "snapshot", "number": 0, "at": 0, "rows": [], "totals": {}},
        {"type": "snapshot", "number": 1, "at": 0, "rows": [{}], "totals": {}},
        {"type": "snapshot", "number": 1, "at": 0, "rows": 7, "totals": {}},
        {"type": "snapshot", "number": 1, "at": 0, "rows": [], "totals": {"started": -1}},
        {"type": "end", "cause": "boredom"},
        {"type": "ready"},
    ],
)
def test_an_engine_that_talks_nonsense_is_ended(line: dict[str, Any]) -> None:
    world = World()
    world.running()
    assert of(KillEngine, world.line(**line)) == [KillEngine("claim1", "KILL")]
    world.exit(status=-9, output="tail")
    world.run(50 * MS)
    end = end_of(world)
    assert (end.cause, end.output) == ("crashed", "tail") and "understood" in end.detail


def test_a_stop_is_forwarded_once_and_sooner_ones_again() -> None:
    world = World()
    world.running()
    number = 1
    for grace in (30, 30, 5, 30):
        world.control(world.order(action="stop", stop_grace_ns=grace * SECOND))
        number = lively(world, 1, number)
    assert [line["grace_ns"] for line in world.lines(kind="stop")] == [30 * SECOND, 5 * SECOND]


def test_a_stuck_engine_gets_grace_and_a_second_then_term_then_kill() -> None:
    world = World()
    world.running()
    world.control(world.order(action="stop", stop_grace_ns=2 * SECOND, reason="aborted"))
    world.run(2999 * MS)
    assert not of(KillEngine, world.commands)
    world.run(2 * MS)
    assert of(KillEngine, world.commands) == [KillEngine("claim1", "TERM")]
    world.run(997 * MS)
    assert len(of(KillEngine, world.commands)) == 1
    world.run(3 * MS)
    assert of(KillEngine, world.commands)[1:] == [KillEngine("claim1", "KILL")]
    world.run(5 * SECOND)
    assert len(of(KillEngine, world.commands)) == 2
    world.exit(status=-9)
    world.run(50 * MS)
    end = end_of(world)
    assert end.cause == "crashed" and "KILL" in end.detail and "aborted" in end.detail


def test_an_engine_that_said_its_end_and_stays_is_killed() -> None:
    world = World()
    world.running()
    world.line(type="end", cause="finished", detail="", at_ns=0)
    world.run(1100 * MS)
    assert of(KillEngine, world.commands) == [KillEngine("claim1", "TERM")]
    world.run(SECOND)
    assert of(KillEngine, world.commands)[-1] == KillEngine("claim1", "KILL")


def test_an_engine_that_says_nothing_for_a_lease_is_killed() -> None:
    world = World()
    world.running()
    number = lively(world, 20)
    assert number == 21 and not of(KillEngine, world.commands)
    world.run(11 * SECOND)
    assert [command.signal for command in of(KillEngine, world.commands)] == ["TERM", "KILL"]
    world.exit(status=-15)
    world.run(50 * MS)
    assert "said nothing for 10 s" in end_of(world).detail


def test_a_suspended_host_blames_neither_its_engine_nor_the_scheduler() -> None:
    world = World()
    world.running()
    lively(world, 3)
    world.now += 3600 * SECOND
    world.do(Tick())
    world.snapshot(9)
    world.run(SECOND)
    assert not of(KillEngine, world.commands) and not world.lines(kind="stop")


def test_silence_of_the_scheduler_stops_engines() -> None:
    world = World()
    world.running()
    number = lively(world, 119)
    assert not world.lines(kind="stop")
    lively(world, 2, number)
    [stop] = world.lines(kind="stop")
    assert stop["grace_ns"] == SECOND
    world.line(type="end", cause="stopped", detail="", at_ns=SECOND)
    world.exit()
    world.run(60 * SECOND)
    end = end_of(world)
    assert end.cause == "lapsed" and "120 s" in end.detail


def test_a_silent_scheduler_gets_fewer_reports_until_it_speaks() -> None:
    world = World()
    world.run(120 * SECOND)
    before = len(world.reports)
    world.run(120 * SECOND)
    assert len(world.reports) - before <= 5
    world.control()
    before = len(world.reports)
    world.run(10 * SECOND)
    assert len(world.reports) - before >= 9


def test_a_resent_control_breaks_the_silence_but_a_duplicate_does_not() -> None:
    world = World()
    world.running()
    number = lively(world, 100)
    control = world.build(world.order(action="run"))
    world.control(world.order(action="run"), revision=control.revision)
    number = lively(world, 100, number)
    assert not world.lines(kind="stop")
    lively(world, 30, number)
    assert world.lines(kind="stop")


# The agent's own end


def test_an_idle_agent_says_goodbye_and_goes_once_that_is_published() -> None:
    world = World(publishes=False)
    world.publish_all()
    world.do(Terminate())
    assert world.reports[-1].leaving and not of(Exit, world.commands)
    assert of(Exit, world.publish_all()) == [Exit(0)]
    assert world.do(Tick()) == []


def test_a_busy_agent_stops_its_engines_and_waits_until_the_scheduler_has_all() -> None:
    world = World()
    world.running()
    commands = world.do(Terminate())
    assert commands[0] == SetPrefetch(0)
    assert world.lines(kind="stop") == [{"type": "stop", "grace_ns": 500 * MS, "cause": "stopped"}]
    world.snapshot(1, rows=[{"second": 0, "started": 3}])
    world.line(type="end", cause="stopped", detail="", at_ns=SECOND)
    world.exit()
    world.run(100 * MS)
    end = end_of(world)
    assert (end.cause, end.detail) == ("lapsed", "the worker is ending")
    assert not world.reports[-1].leaving
    world.control(applied=world.reports[-1].sequence)
    world.run(50 * MS)
    assert world.reports[-1].leaving and of(Exit, world.commands) == [Exit(0)]


def test_an_agent_ends_in_bounded_time_whatever_engine_scheduler_and_broker_do() -> None:
    world = World()
    world.running()
    world.publishes = False
    world.do(Terminate())
    began = world.now
    world.run(15 * SECOND)
    assert [command.signal for command in of(KillEngine, world.commands)] == ["TERM", "KILL"]
    assert of(Exit, world.commands) == [Exit(0)] and world.now - began <= 16 * SECOND


def test_an_undecided_claim_is_handed_back_with_the_goodbye() -> None:
    world = World()
    world.offer()
    world.run(50 * MS)
    world.do(Terminate())
    world.control(applied=world.reports[-1].sequence)
    world.run(50 * MS)
    world.control(applied=world.reports[-1].sequence)
    world.run(50 * MS)
    assert world.reports[-1].leaving and of(Exit, world.commands)


def test_told_twice_it_kills_and_goes() -> None:
    world = World()
    world.running()
    world.do(Terminate())
    before = len(of(Publish, world.commands))
    commands = world.do(Terminate(at_once=True))
    assert of(KillEngine, commands) == [KillEngine("claim1", "KILL")] and not of(Exit, commands)
    assert of(Exit, world.exit(status=-9)) == [Exit(0)]
    assert len(of(Publish, world.commands)) == before


def test_an_engine_that_survives_its_kill_does_not_hold_the_agent() -> None:
    world = World()
    world.running()
    world.do(Terminate(at_once=True))
    world.run(1100 * MS)
    assert of(Exit, world.commands) == [Exit(0)]
