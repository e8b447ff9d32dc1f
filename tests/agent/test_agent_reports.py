"""Reports: rows, splitting, what is kept, what is sent again; and the clock that rides on them."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from loads.workers.agent_events import ControlReceived, Publish
from loads.workers.clock import HostClock, Moment

from loads_queue.codec import encode
from loads_queue.messages import REPORTS, Echo
from tests.agent.world import MS, SECOND, WALL, World, of


def rows_of(world: World) -> list[dict[str, int]]:
    return [dict(row) for report in world.reports for claim in report.claims for row in claim.rows]


def test_each_row_goes_into_one_report_the_latest_of_its_second() -> None:
    world = World()
    world.running()
    world.run(100 * MS)
    world.snapshot(1, rows=[{"second": 0, "started": 1}, {"second": 1, "started": 5}])
    world.snapshot(2, rows=[{"second": 1, "started": 9}])
    world.run(2 * SECOND)
    assert rows_of(world) == [{"second": 0, "started": 1}, {"second": 1, "started": 9}]


def test_rows_gather_by_second_while_the_broker_takes_nothing() -> None:
    world = World()
    world.running()
    world.publishes = False
    for number in range(1, 61):
        world.snapshot(number, rows=[{"second": number % 3, "started": number}])
        world.run(SECOND)
    assert world.state.unpublished() == 4
    assert len(world.state.kept) < 12 and len(world.state.claims["claim1"].rows) == 3
    world.publishes = True
    world.publish_all()
    world.run(SECOND)
    assert {row["second"]: row["started"] for row in rows_of(world)} == {0: 60, 1: 58, 2: 59}


def test_a_large_report_is_split_below_the_limit_renewal_first_and_end_last() -> None:
    world = World()
    world.running()
    world.run(100 * MS)
    before = len(world.reports)
    noise = random.Random(7)
    rows = [{"second": second, "series": {'"ü' * 500: noise.randrange(9)}} for second in range(200)]
    world.snapshot(1, rows=rows)
    world.line(type="end", cause="finished", detail="", at_ns=SECOND)
    world.run(21 * MS)
    parts = world.reports[before:]
    assert len(parts) > 2
    assert all(len(encode(part, REPORTS, 0).encode()) <= 256 * 1024 for part in parts)
    claims = [part.claims[0] for part in parts]
    assert [row["second"] for claim in claims for row in claim.rows] == list(range(200))
    assert claims[0].permit_until_ns is not None
    assert [claim.end is None for claim in claims] == [True] * (len(parts) - 1) + [False]
    assert [claim.state for claim in claims[:-1]] == ["running"] * (len(parts) - 1)


def test_the_end_counts_as_told_only_with_its_last_part() -> None:
    world = World()
    world.running()
    world.run(100 * MS)
    before = len(world.reports)
    world.snapshot(1, rows=[{"second": second, "series": {"x" * 4000: 1}} for second in range(200)])
    world.line(type="end", cause="finished", detail="", at_ns=SECOND)
    world.run(21 * MS)
    last = world.reports[-1].sequence
    assert len(world.reports) - before > 2
    world.exit()
    world.control(applied=last - 1)
    assert world.state.claims
    world.control(applied=last)
    assert not world.state.claims


def test_warnings_are_told_once() -> None:
    world = World()
    world.running()
    for number in range(1, 4):
        world.snapshot(number, warnings=["data wrapped"])
        world.run(SECOND)
    told = [warning for report in world.reports for claim in report.claims for warning in claim.warnings]
    assert told == ["data wrapped"]


def test_applied_trims_what_is_kept() -> None:
    world = World()
    world.run(5 * SECOND)
    assert list(world.state.kept) == [1, 2, 3, 4, 5, 6]
    world.control(applied=4)
    assert list(world.state.kept) == [5, 6]
    world.control(applied=10**9)
    assert not world.state.kept and world.state.applied == 6


def test_a_hole_is_sent_again_as_it_was_and_less_and_less_often() -> None:
    world = World()
    world.run(5 * SECOND)
    first = {report.sequence: report for report in world.reports}
    commands = of(Publish, world.control(applied=3))
    assert [command.report for command in commands] == [first[4], first[5]]
    assert not of(Publish, world.control(applied=3))
    again = 0
    for _ in range(20):
        world.run(SECOND)
        again += sum(command.report.sequence == 4 for command in of(Publish, world.control(applied=3)))
    assert 2 <= again <= 5


def test_without_a_hole_nothing_is_sent_again() -> None:
    world = World()
    world.run(10 * SECOND)
    echo = Echo(3, 0, 0, 0)
    assert not of(Publish, world.control(applied=3, echo=echo))


def test_kept_reports_are_bounded_while_no_scheduler_takes_any() -> None:
    world = World(silence_ns=10**15)
    world.run(4200 * SECOND)
    assert len(world.state.kept) <= 4097


# The clock


@given(
    st.integers(-(10**12), 10**12),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=70),
)
def test_the_offset_is_off_by_at_most_half_the_shortest_round_trip(
    ahead: int, trips: list[tuple[int, int, int]]
) -> None:
    clock, now = HostClock(), 5 * 10**12
    for sequence, (up, inside, down) in enumerate(trips, 1):
        clock.report_made(sequence, Moment(now, now + WALL))
        received = now + up + WALL + ahead
        now += up + inside + down
        clock.heard(Echo(sequence, 0, received, received + inside), Moment(now, now + WALL))
    moment = Moment(now, now + WALL)
    shortest = min(up + down for up, _, down in trips[-64:])
    reading = clock.reading(moment)
    assert reading.round_trip_ns == shortest
    assert reading.offset_ns is not None and abs(reading.offset_ns + ahead) <= shortest // 2 + 1
    assert abs(clock.boot_of(now + WALL + ahead, moment) - now) <= shortest // 2 + 1


def test_a_step_of_the_hosts_wall_clock_moves_no_start() -> None:
    clock = HostClock()
    clock.report_made(1, Moment(100, WALL))
    clock.heard(Echo(1, WALL, WALL + 50, WALL + 50), Moment(200, WALL + 100))
    assert clock.boot_of(WALL + 1000, Moment(300, WALL - 3600 * SECOND)) == 1100


def test_an_echo_of_an_unknown_report_is_no_sample() -> None:
    clock = HostClock()
    clock.heard(Echo(9, 0, 0, 0), Moment(1, WALL))
    assert clock.best is None and clock.reading(Moment(1, WALL)).offset_ns is None


# Which Controls count


def test_controls_of_others_and_of_the_past_change_nothing() -> None:
    world = World()
    world.control()
    world.offer()
    world.run(50 * MS)
    granted = world.order()
    for wrong in (
        world.build(granted, worker="w2"),
        world.build(granted, incarnation="life0"),
        world.build(granted, epoch=0),
    ):
        world.do(ControlReceived(wrong))
        assert world.state.claims["claim1"].state == "claimed"
    late = world.build(granted)
    world.control(epoch=1, revision=100)
    world.do(ControlReceived(late))
    assert world.state.claims["claim1"].state == "claimed"
    world.control(granted, epoch=2, revision=1)
    assert world.state.claims["claim1"].state == "preparing"
    world.control(world.order(action="stop"), epoch=1, revision=10**6)
    assert world.state.claims["claim1"].state == "preparing"
