"""Changes of a running load: whatever an engine hears and when, each second and the whole come out even."""

from __future__ import annotations

import time
from fractions import Fraction

from engine_harness import SECOND, EngineProcess, closed_load, counted_load, open_load, pause, request, scenario
from engine_targets import DemoTarget

from loads_queue.model import profile
from loads_queue.model.summary import Row

Changes = list[tuple[int, int, int]]
PART = SECOND // 2


def begin(engine: EngineProcess, spec: dict, load: dict, **start) -> None:
    engine.spec(spec, load)
    engine.until_ready()
    engine.permit()
    engine.start(**start)


def wait_until(engine: EngineProcess, seconds: float) -> None:
    time.sleep(max(0, engine.base / 1e9 + seconds - time.clock_gettime(time.CLOCK_BOOTTIME)))


def check_arrivals(engine: EngineProcess, load: dict, changes: Changes) -> None:
    """planned + surplus = started + dropped + missed, by second, with planned by the changed profile."""
    shard = profile.from_wire(load).changed(changes).shard(0, 1)
    for second in range(shard.load.end_ns // SECOND + 1):
        row = engine.rows.get(second)
        planned = shard.planned_by((second + 1) * SECOND) - shard.planned_by(second * SECOND)
        decided = row.started + row.dropped + row.missed - row.surplus if row else 0
        assert planned == decided, (second, planned, row)
    assert engine.snapshots[-1]["totals"]["next"] == shard.planned


def check_user_time(engine: EngineProcess, load: dict, changes: Changes) -> None:
    """planned = held + missed, by second; the first may have begun late."""
    planned = profile.from_wire(load).changed(changes)
    late = engine.snapshots[-1]["totals"]["held_from_ns"]
    for second in range(planned.end_ns // SECOND + 1):
        row = engine.rows.get(second, Row())
        low = max(late, second * SECOND)
        assert row.held_ns + row.missed_user_ns == planned.user_ns(low, (second + 1) * SECOND), (second, row)


class TestOpen:
    def test_what_was_started_beyond_a_change_heard_late_is_surplus(
        self, engine: EngineProcess, demo: DemoTarget
    ) -> None:
        load, changes = open_load(200, 1.5), [(PART, 1, 4)]
        before = demo.counter()["total"]
        begin(engine, scenario(demo.url), load)
        wait_until(engine, 1.0)
        engine.send(type="adjust", changes=changes)
        assert engine.finish()["cause"] == "finished"
        check_arrivals(engine, load, changes)
        assert 70 <= engine.total.surplus <= 90 and engine.total.missed == 0
        assert demo.counter()["total"] - before == engine.total.started == 150 + engine.total.surplus

    def test_what_was_not_started_of_a_change_heard_late_is_missed(
        self, engine: EngineProcess, demo: DemoTarget
    ) -> None:
        load, changes = open_load(100, 1.5), [(PART, 2, 1)]
        begin(engine, scenario(demo.url), load)
        wait_until(engine, 1.0)
        engine.send(type="adjust", changes=changes)
        engine.finish()
        check_arrivals(engine, load, changes)
        assert 48 <= engine.total.missed <= 60 and engine.total.surplus == 0
        assert engine.total.lateness.max < SECOND // 2

    def test_a_pause_heard_late_and_taken_back_late(self, engine: EngineProcess, demo: DemoTarget) -> None:
        load = open_load(200, 2)
        begin(engine, scenario(demo.url), load)
        wait_until(engine, 0.8)
        engine.send(type="adjust", changes=[(PART, 0, 1)])
        wait_until(engine, 1.3)
        changes = [(PART, 0, 1), (2 * PART, 1, 1)]
        engine.send(type="adjust", changes=changes)
        engine.finish()
        check_arrivals(engine, load, changes)
        assert 55 <= engine.total.surplus <= 80
        assert 55 <= engine.total.missed <= 80

    def test_changes_that_the_start_tells_hold_from_the_first_arrival(
        self, engine: EngineProcess, demo: DemoTarget
    ) -> None:
        load, changes = open_load(100, 1), [(0, 1, 2), (PART, 0, 1)]
        begin(engine, scenario(demo.url), load, after_s=0.1, changes=changes)
        engine.finish()
        check_arrivals(engine, load, changes)
        assert (engine.total.started, engine.total.surplus, engine.total.missed) == (25, 0, 0)

    def test_a_change_after_a_stop_still_amends_what_was(self, engine: EngineProcess, demo: DemoTarget) -> None:
        load, changes = open_load(100, 30), [(PART, 1, 2)]
        begin(engine, scenario(demo.url, request("/delay/300")), load)
        wait_until(engine, 1.0)
        engine.stop(5)
        engine.send(type="adjust", changes=changes)
        assert engine.finish()["cause"] == "stopped"
        assert 24 <= engine.total.surplus <= 30
        totals = engine.snapshots[-1]["totals"]
        assert totals["started"] - engine.total.surplus == totals["next"]

    def test_what_is_in_flight_ends_during_a_pause(self, engine: EngineProcess, demo: DemoTarget) -> None:
        load, changes = open_load(20, 1), [(PART, 0, 1)]
        begin(engine, scenario(demo.url, request("/delay/700")), load, after_s=0.1, changes=changes)
        engine.finish()
        assert (engine.total.ok, engine.total.interrupted) == (10, 0)


class TestClosed:
    def test_fewer_users_heard_of_late(self, engine: EngineProcess, demo: DemoTarget) -> None:
        load, changes = closed_load(4, 1.5), [(PART, 1, 4)]
        begin(engine, scenario(demo.url, request("/delay/20")), load)
        wait_until(engine, 1.0)
        engine.send(type="adjust", changes=changes)
        engine.finish()
        check_user_time(engine, load, changes)
        assert 3 * PART <= engine.total.surplus_user_ns < 4 * PART and engine.total.missed_user_ns == 0
        assert engine.total.surplus == 0

    def test_more_users_heard_of_late(self, engine: EngineProcess, demo: DemoTarget) -> None:
        load, changes = closed_load(2, 1.6), [(PART, 2, 1)]
        begin(engine, scenario(demo.url, request("/delay/20")), load)
        wait_until(engine, 1.0)
        engine.send(type="adjust", changes=changes)
        engine.finish()
        check_user_time(engine, load, changes)
        assert 2 * PART <= engine.total.missed_user_ns < 3 * PART and engine.total.surplus_user_ns == 0
        assert engine.rows[1].users == 4
        assert engine.total.iteration_response.max < PART  # Nobody waits for what could not be heard.

    def test_a_pause_lets_go_of_all_users_and_takes_them_back(self, engine: EngineProcess, demo: DemoTarget) -> None:
        load, changes = closed_load(3, 2.5), [(SECOND, 0, 1), (2 * SECOND, 1, 1)]
        begin(engine, scenario(demo.url, request("/delay/20")), load, after_s=0.1)
        engine.send(type="adjust", changes=changes)
        engine.finish()
        check_user_time(engine, load, changes)
        assert engine.total.held_ns == 3 * 3 * SECOND // 2
        assert 1 not in engine.rows or engine.rows[1].began == 0
        assert engine.rows[2].users == 3 and engine.total.interrupted == 0


class TestCounted:
    def test_turns_wait_while_the_factor_is_0(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url, request("/delay/100")), counted_load(2, 8), after_s=0.1)
        engine.send(type="adjust", changes=[(2 * SECOND // 5, 0, 1), (SECOND, 2, 1)])
        end = engine.finish()
        assert end["cause"] == "finished" and end["at_ns"] > 13 * SECOND // 10
        assert engine.total.ok == 16
        assert 2 <= engine.rows[0].started <= 10

    def test_a_pause_without_an_end_ends_with_the_change_that_takes_it_back(
        self, engine: EngineProcess, demo: DemoTarget
    ) -> None:
        begin(engine, scenario(demo.url), counted_load(2, 5), after_s=0.05, changes=[(0, 0, 1)])
        wait_until(engine, 0.6)
        assert engine.until("snapshot")["totals"]["started"] == 0
        engine.send(type="adjust", changes=[(0, 0, 1), (SECOND, 1, 1)])
        engine.finish()
        assert engine.total.ok == 10

    def test_what_a_stopped_engine_tells_of_turns_is_what_the_next_one_goes_on_with(self, demo: DemoTarget) -> None:
        load = profile.to_wire(profile.IterationsLoad(((4, 5), (2, 3))))
        done, told = 0, None
        for stops in (True, True, False):
            engine = EngineProcess()
            try:
                begin(engine, scenario(demo.url, request("/delay/60")), load, turns=told)
                if stops:
                    wait_until(engine, 0.15)
                    engine.stop(2)
                engine.finish()
            finally:
                engine.close()
            done += engine.total.ok
            told = engine.snapshots[-1]["totals"]["turns"]
            assert all(snapshot["totals"].get("turns") is None for snapshot in engine.snapshots[:-1])
            if stops:
                assert told is not None and sum(told) == done < 26 and len(told) == 4
                assert engine.snapshots[-1]["totals"]["remaining"] == 26 - done
        assert told is None and done == profile.from_wire(load).planned == 26

    def test_interrupted_turns_are_not_begun_again(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url, pause(60)), counted_load(3, 2), turns=[0, 1, 2])
        wait_until(engine, 0.2)
        engine.stop()
        engine.finish()
        assert (engine.total.interrupted, engine.snapshots[-1]["totals"]["turns"]) == (2, [1, 2, 2])

    def test_turns_of_other_users_than_there_are_is_a_fault(self, engine: EngineProcess, demo: DemoTarget) -> None:
        begin(engine, scenario(demo.url), counted_load(3, 2), turns=[1])
        assert engine.finish()["cause"] == "crashed"
        assert engine.total.started == 0


def test_a_shard_of_many_keeps_to_its_own_share_of_a_change(demo: DemoTarget) -> None:
    """Two shards hear of one change at different times: together they planned what the profile says."""
    stage = profile.RateStage(Fraction(60), Fraction(60), 3 * PART)
    load, changes = profile.OpenLoad((stage,)), [(PART, 1, 3)]
    engines = [EngineProcess() for _ in range(2)]
    try:
        for number, engine in enumerate(engines):
            engine.spec(scenario(demo.url), profile.to_wire(load), shard=number, shards=2)
        for engine in engines:
            engine.until_ready()
            engine.permit()
            engine.start(0.1)
        for engine, heard in zip(engines, (0.2, 1.1), strict=True):
            wait_until(engine, heard)
            engine.send(type="adjust", changes=changes)
        for engine in engines:
            engine.finish()
    finally:
        for engine in engines:
            engine.close()
    assert engines[0].total.surplus == 0 and engines[1].total.surplus >= 10
    kept = sum(engine.total.started + engine.total.missed - engine.total.surplus for engine in engines)
    assert kept == load.changed(changes).planned == 50
